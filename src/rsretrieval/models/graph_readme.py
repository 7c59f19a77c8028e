"""What a folder of graphs says of its use, without this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsretrieval.models.config import EncoderConfig, TowerConfig
from rsretrieval.models.graphs import Form
from rsretrieval.models.tokenizers import tokenizer_of

_SQUARES = {
    "squash": ".resize((SIZE, SIZE), Image.Resampling.KIND)",
    "shortest": "; picture = ImageOps.fit(picture, (SIZE, SIZE), Image.Resampling.KIND)",
    "longest": "; picture = ImageOps.pad(picture, (SIZE, SIZE), Image.Resampling.KIND)",
}
_TEXT = """# A model as graphs of {library}

Cosines between pictures and sentences{numbers}. Written by `rsretrieval export` ({version}); rsretrieval itself embeds
and searches with {whose}. In this folder:

```python
{code}
```

- Normalisation, {views} views and the projections are in the graph; its embeddings have length 1.
- Pictures were made squares by {resampler}, `{resize}`, {interpolation}: others are near, not equal.
{remarks}- Digest of the model: `{digest}`. What else is known stands in `graph.json`{bank}.
"""


def readme(about: Mapping[str, Any], config: EncoderConfig) -> str:
    """The page in Markdown.

    Args:
        about: what the folder's JSON says.
        config: of the model, its tokenisers where the folder is.
    """
    form: Form = about["form"]
    own = config.preprocessing
    remarks = "- Texts of eight bits depend a little on the others of their batch.\n" if _is_small(about) else ""
    return _TEXT.format(
        library="onnxruntime" if form == "onnx" else "torch.export",
        numbers=", in eight bits" if _is_small(about) else "",
        version=about["versions"]["rsretrieval"],
        whose="the folder, too" if form == "onnx" else "the model itself",
        code="\n".join(
            [*_imports(form), *_image(about, config), *_texts(about, config), *_calls(form), *_means(about, config)]
        ),
        views=config.eval_views,
        resampler="Pillow where they shrink, OpenCV where they grow" if own.resampler == "default" else own.resampler,
        resize=own.resize,
        interpolation=own.interpolation,
        remarks=remarks,
        digest=about["digest"],
        bank="; queries to correct scores by in `bank.safetensors`" if config.query_bank else "",
    )


def _is_small(about: Mapping[str, Any]) -> bool:
    return bool(about["numbers"] == "int8")


def _imports(form: Form) -> list[str]:
    return [
        "import itertools, re, zlib",
        "import numpy as np",
        "import open_clip, transformers  # whichever the tokeniser is of",
        "import onnxruntime" if form == "onnx" else "import torch",
        "from PIL import Image, ImageOps",
        "",
    ]


def _image(about: Mapping[str, Any], config: EncoderConfig) -> list[str]:
    own, size = config.preprocessing, about["image_size"]
    if own.channels != 3:
        return [
            f"images = np.load('a.npy')  # float32 (batch, {own.channels}, {size}, {size}), in the units of the mean"
        ]
    square = _SQUARES[own.resize].replace("SIZE", str(size)).replace("KIND", own.interpolation.upper())
    return [
        f"picture = Image.open('a.png').convert('RGB'){square}",
        f"images = np.asarray(picture).transpose(2, 0, 1)[None].copy()  # uint8 (batch, 3, {size}, {size})",
    ]


def _texts(about: Mapping[str, Any], config: EncoderConfig) -> list[str]:
    lines = ["texts = ['two ships in the harbour', 'a red plane']"]
    if about["cleans_texts"]:
        words = f"re.sub(r'[^\\w\\s]|_', ' ', text.lower()).split()[:{about['max_words']}]"
        lines.append(f"texts = [' '.join({words}) for text in texts]")
    if config.prompts:
        lines.append(f"texts = [prompt.replace('{{}}', text) for text in texts for prompt in {list(config.prompts)}]")
    parts = config.text.parts()
    lines += [f"tokens_{number} = {_tokens(part)}" for number, part in enumerate(parts)]
    keys = [(value["name"], value["key"].rpartition(".")) for value in about["inputs"]["text"]]
    named = ", ".join(f"'{name}': tokens_{number or 0}['{key}']" for name, (number, _, key) in keys)
    return [*lines, f"inputs = {{{named}}}"]


def _tokens(config: TowerConfig) -> str:
    """The call of a tokeniser, that gives arrays by name."""
    from rsretrieval.models.towers.architectures import read_definition
    from rsretrieval.models.towers.ngrams import IDS

    tokenizer: Any = tokenizer_of(config)
    place = config.name.rpartition("/towers/")[2]
    if config.library == "open_clip":
        inner = tokenizer.tokenizer
        call = f"tokenizer.SimpleTokenizer(context_length={inner.context_length})"
        if hasattr(inner, "tokenizer"):  # of transformers
            call = f"get_tokenizer('{config.name}', {inner.context_length})"
            if place.endswith(".json"):
                options = read_definition(Path(config.name))["text_cfg"].get("tokenizer_kwargs", {})
                source = f"'towers/{place.removesuffix('.json')}', {inner.context_length}"
                call = f"tokenizer.HFTokenizer({source}, **{options})"
        return f"{{'input_ids': open_clip.{call}(texts).numpy()}}"
    if config.library == "ngrams":
        run = "zlib.crc32(' '.join(words[i:i + n]).encode())"
        lengths, starts = f"for n in range(1, {tokenizer.longest + 1})", "for i in range(len(words) - n + 1)"
        runs = f"[{run} % {tokenizer.buckets} + 1 {lengths} {starts}]"
        rows = f"[{runs} or [0] for words in map(str.split, map(str.lower, texts))]"
        return f"{{'{IDS}': np.array([*itertools.zip_longest(*{rows}, fillvalue=0)], np.int64).T}}"
    length, padding = getattr(tokenizer, "max_tokens", None), getattr(tokenizer, "padding", True)
    cut = f"padding={padding!r}, truncation=True, max_length={length or tokenizer.context}, return_tensors='np'"
    side = ", padding_side='right'" if length else ""
    return f"transformers.AutoTokenizer.from_pretrained('towers/{place}'{side})(texts, {cut})"


def _calls(form: Form) -> list[str]:
    names = {"image": "{'images': images}", "text": "inputs"}
    if form == "onnx":
        calls = [f"{n} = onnxruntime.InferenceSession('{n}.onnx').run(None, {given})[0]" for n, given in names.items()]
    else:
        calls = [
            "with torch.no_grad():",
            "    image = torch.export.load('image.pt2').module()(torch.from_numpy(images)).numpy()",
            "    text = torch.export.load('text.pt2').module()(*map(torch.as_tensor, inputs.values())).numpy()",
        ]
    return calls


def _means(about: Mapping[str, Any], config: EncoderConfig) -> list[str]:
    """Of the prompts of a text, each head by itself; and the end."""
    lines = []
    if config.prompts:
        heads = len(config.heads)
        lines += [
            f"text = text.reshape(-1, {len(config.prompts)}, {heads}, {about['embed_dim'] // heads}).mean(1)",
            f"text *= np.sqrt({list(config.heads)})[:, None] / np.linalg.norm(text, axis=-1, keepdims=True)",
            "text = text.reshape(len(text), -1)",
        ]
    return [*lines, "print(text @ image.T)  # cosines"]
