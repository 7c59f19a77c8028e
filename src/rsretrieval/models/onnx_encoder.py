"""A model's graphs by onnxruntime, in the place of the model: no tower is built.

https://onnxruntime.ai/docs/api/python/api_summary.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsretrieval.lazy import needs
from rsretrieval.models.config import EncoderConfig, TowerConfig
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.graphs import OUTPUT, GraphError
from rsretrieval.models.inputs import check_images
from rsretrieval.models.parallel import CPU_BATCH
from rsretrieval.models.query_bank import QueryBank
from rsretrieval.models.remote_code import check_remote_code
from rsretrieval.models.standalone import in_folder
from rsretrieval.models.tokenizers import tokenizer_of
from rsretrieval.settings import SettingsError, build
from rsretrieval.types import Tokenizer, Tokens

ABOUT, BANK = "graph.json", "bank.safetensors"
"""Files of a folder of graphs beside these."""
TOWERS = (
    "image_tower",
    "convolutional_branch",
    "pooled_projection",
    "text_projection",
    "image_adapter",
    "text_adapter",
)
"""Parts of a dual encoder that graphs have within."""


def is_graphs(name: str | Path) -> bool:
    """Whether a name is that of a folder of graphs."""
    return (Path(name).expanduser() / ABOUT).is_file()


class OnnxEncoder(DualEncoder):
    """A dual encoder for evaluation alone, whose sides are graphs; whoever asks for its tensors is refused.

    Args:
        folder: that ``rsretrieval export --form onnx`` wrote.
        trust_remote_code: let the settings of its tokeniser run Python code that comes with it.

    Attributes:
        image_size: side of the pictures, in pixels.
        max_words: longest sentence, in words.
        hubness: how scores are corrected for hubs; None where the model was trained without.
        trained_on: names of the data sets whose training splits the model saw.
        digest: which model it is; that of the model itself, but of eight bits one of its own.

    Raises:
        GraphError: if the folder holds programs of torch.export.
        SettingsError: if its settings are of no version that is known.
        RemoteCodeError: if they would run a stranger's code, and that is not allowed.
    """

    def __init__(self, folder: str | Path, *, trust_remote_code: bool = False) -> None:
        nn.Module.__init__(self)  # no tower is built
        self.folder = Path(folder).expanduser()
        about = _read(self.folder / ABOUT)
        if missing := [side for side in about["inputs"] if not (self.folder / f"{side}.onnx").is_file()]:
            raise GraphError(f"'{self.folder}' lacks {missing[0]}.onnx: fetch the whole folder, or export it anew")
        check_remote_code(about["encoder"], f"'{self.folder / ABOUT}'", trusted=trust_remote_code)
        self.config = in_folder(build(EncoderConfig, about["encoder"], f"'{self.folder / ABOUT}'"), self.folder)
        self.image_size, self.max_words = int(about["image_size"]), int(about["max_words"])
        self.hubness: dict[str, Any] | None = about["hubness"]
        self.trained_on, self.digest = tuple(about["trained_on"]), str(about["digest"])
        self.width, self._inputs = int(about["embed_dim"]), about["inputs"]
        self.heads = self.config.embedding_heads
        self.bank = _bank(self.folder / BANK)

        self.text_tower = _Texts(self.config.text)
        self.eval()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a module's
        if name in TOWERS:
            raise self._refusal()
        return super().__getattr__(name)

    def _refusal(self) -> GraphError:
        return GraphError(
            f"'{self.folder}' holds graphs of ONNX, which embed and no more: for anything else take the model that "
            "they were made of"
        )

    def fill(self, model: DualEncoder) -> None:
        """Refused, as another model's start."""
        raise self._refusal()

    def state_dict(self, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        """Refused: tensors are in the graphs."""
        raise self._refusal()

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def to(self, device: torch.device | str) -> OnnxEncoder:  # type: ignore[override]
        """Itself, on the CPU.

        Raises:
            GraphError: for another device.
        """
        if torch.device(device).type != "cpu":
            raise GraphError(
                f"graphs of ONNX run on the CPU here, not on '{device}': take the CPU (--device cpu, of embed "
                "--accelerator cpu), or the model that they were made of"
            )
        return self

    @cached_property
    def _run(self) -> dict[str, Callable[[Sequence[Tensor]], Tensor]]:
        return {
            side: runner(self.folder / f"{side}.onnx", [value["name"] for value in values])
            for side, values in self._inputs.items()
        }

    def __getstate__(self) -> dict[str, Any]:
        """Sessions do not travel to other processes: each opens its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_run"}

    def encode_image(self, images: Tensor) -> Tensor:
        """``(B, 3, S, S)`` uint8 to ``(B, embed_dim)`` L2-normalised float32, over all views of the model."""
        check_images(images, self.config.preprocessing.channels)
        if not len(images):
            return torch.zeros(0, self.embed_dim)
        size = max(1, CPU_BATCH // self.config.eval_views)  # the graph sees all views of an image at once
        return torch.cat([self._run["image"]([chunk]) for chunk in torch.split(images, size)])

    def _encode(self, tokens: Tokens) -> Tensor:
        return self._run["text"]([tokens[value["key"]] for value in self._inputs["text"]])


class _Texts(nn.Module):
    """In the place of a text tower: its tokeniser."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return tokenizer_of(self.config)


def runner(file: Path, names: Sequence[str]) -> Callable[[Sequence[Tensor]], Tensor]:
    """A graph of ONNX as a function, in as many threads as torch takes.

    Args:
        file: of the graph.
        names: of its inputs, in the order of the function's.

    Raises:
        ImportError: without the extra ``onnx``.
    """
    runtime = needs("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def run(inputs: Sequence[Tensor]) -> Tensor:
        arrays = {name: tensor.contiguous().numpy() for name, tensor in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run([OUTPUT], arrays)[0])

    return run


def _read(file: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        form = about["form"]
    except (ValueError, KeyError) as error:
        raise SettingsError(f"'{file}' does not describe graphs ({error!r}): export the model again") from error
    if form != "onnx":
        raise GraphError(
            f"'{file.parent}' holds programs of {form}, which its README.md says how to use: here take the model "
            "itself, or graphs of --form onnx"
        )
    return about


def _bank(file: Path) -> QueryBank | None:
    if not file.is_file():
        return None
    from safetensors.torch import load_file

    tensors = load_file(file)
    bank = QueryBank(*tensors["text"].shape)
    bank.load_state_dict(tensors)
    return bank
