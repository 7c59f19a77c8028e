"""The card of a model: how it is used, what it reached and how it was trained, from the files of its run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsretrieval.files import write_text
from rsretrieval.models.checkpoint import load_checkpoint
from rsretrieval.models.exported import read_settings
from rsretrieval.models.recipe import RECIPE, data_name, recipe, shown, training_lines
from rsretrieval.models.standalone import towers_of
from rsretrieval.models.written_card import MARK, again, is_own, signed
from rsretrieval.records.run import SplitFigures, TrainedRun, run_of

if TYPE_CHECKING:
    from rsretrieval.models.pretrained import ModelSource

log = logging.getLogger(__name__)
CARD = "README.md"
BUILT_IN = ("timm", "open_clip", "transformers")
"""Libraries of towers that come with the package."""
WAYS = {"i2t": "image to text", "t2i": "text to image"}
USAGE = """```python
from rsretrieval import Retriever
retriever = Retriever.from_pretrained("{name}")
images = retriever.encode_images(["a.tif", "b.tif"])  # paths, pictures or arrays
texts = retriever.encode_texts(["two ships in a harbour"])
print(texts @ images.T)  # cosines: the highest is the best image
```"""


def write_card(folder: Path, source: ModelSource, *, name: str | None = None, licence: str | None = None) -> None:
    """Write ``README.md`` beside a model that was exported, and ``training.yaml`` where its run is known.

    A card that came with the model is copied; one in the folder that a person wrote or edited stays.

    Args:
        folder: of the exported model.
        source: what was exported.
        name: what the model is called; None for the folder's name.
        licence: identifier of the hub, such as ``apache-2.0``; None states none.

    Raises:
        ValueError: for a licence of a model whose card a person wrote.
    """
    text, settings = _card(folder, source, name, licence)
    if settings:
        write_text(folder / RECIPE, settings)
    else:
        (folder / RECIPE).unlink(missing_ok=True)  # of a model that was there before
    write_text(folder / CARD, text)


def _card(folder: Path, source: ModelSource, name: str | None, licence: str | None) -> tuple[str, str | None]:
    """The card, and the content of ``training.yaml`` if there is one."""
    beside = source.origin if source.origin and source.origin.is_dir() else None
    if (folder / CARD).is_file() and not is_own(folder / CARD):
        beside = folder
        log.info("'%s' was written or edited by a person, and is kept", folder / CARD)
    came_with = beside and beside / CARD
    if beside and came_with and came_with.is_file():
        text = came_with.read_text(encoding="utf-8")
        if is_own(came_with):
            text = signed(again(text.rpartition(MARK)[0], source, name or folder.name, licence))
        elif licence is not None:
            raise ValueError(f"licence={licence}: a person wrote the card '{came_with}': write the licence there")
        return text, _beside(beside)
    run = None
    if source.origin is not None and source.origin.is_file():
        content = load_checkpoint(source.origin)
        run = run_of(source.origin, content) if {"epoch", "global_step"} <= content.keys() else None
    body = _body(folder, source, name, run, licence)
    return signed(f"{_front_matter(name or folder.name, run, licence)}\n{body}\n"), recipe(run) if run else None


def _beside(folder: Path) -> str | None:
    file = folder / RECIPE
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _front_matter(name: str, run: TrainedRun | None, licence: str | None) -> str:
    import yaml

    figures = [one for one in (run.figures if run else ()) if "corrected" not in one.title]
    sets = dict.fromkeys(data_name(*data) for data in (run.data if run else None, *(f.data for f in figures)) if data)
    entries = {
        "library_name": "rsretrieval",
        "license": licence,
        "tags": ["rsretrieval", "remote-sensing", "image-text-retrieval"],
        "pipeline_tag": "feature-extraction",
        "datasets": list(sets),
        "metrics": ["recall"] if figures else None,
        "model-index": [{"name": name.rpartition("/")[2], "results": list(map(_result, figures))}] if figures else None,
    }
    content = yaml.safe_dump({key: value for key, value in entries.items() if value}, sort_keys=False)
    return f"---\n{content}---\n"


def _result(figures: SplitFigures) -> dict[str, Any]:
    """An entry of the hub's ``model-index``."""
    names = sorted((name for name in figures.figures if "_R@" in name or name == "mR"), key=_order)
    return {
        "task": {"type": "image-text-retrieval", "name": "Image-text retrieval"},
        "dataset": {
            "type": figures.data[0],
            "name": f"{data_name(*figures.data)}, {figures.title}",
            "split": {"val": "validation"}.get(figures.split, figures.split),
        },
        "metrics": [{"type": "recall", "name": _title(name), "value": figures.figures[name]} for name in names],
    }


def _order(figure: str) -> tuple[int, str, int]:
    """Recall first, by way and rank; then its mean, then what is graded by scenes."""
    kind, _, rank = figure.partition("@")
    return 0 if kind.endswith("_R") else 1 if kind == "mR" else 2, kind, int(rank or 0)


def _title(figure: str) -> str:
    way, _, rest = figure.partition("_")
    return f"{WAYS[way]} {rest}" if way in WAYS else {"mR": "mean recall (mR)"}.get(figure, figure)


def _body(folder: Path, source: ModelSource, name: str | None, run: TrainedRun | None, licence: str | None) -> str:
    known = (
        "trained" if run else f"exported from {f'`{shown(source.folder)}`' if source.folder else 'a pre-trained model'}"
    )
    usage = USAGE.format(name=name or f"./{folder.name}")
    parts = {
        "": [f"A model for image-text retrieval in remote sensing, {known} with rsretrieval.", "", usage],
        "Figures": list(_figures(source, run)),
        "Training": training_lines(source, run),
        "Needs": _needs(folder),
        "Use and limits": list(_limits(source, run, licence)),
    }
    text = "\n".join("\n".join([*([f"\n## {title}\n"] if title else []), *lines]) for title, lines in parts.items())
    return f"# {name or folder.name}\n\n{text}"


def _figures(source: ModelSource, run: TrainedRun | None) -> Iterator[str]:
    figures = run.figures if run else ()
    names = sorted({name for one in figures for name in one.figures}, key=_order)
    if figures:
        yield f"| in percent | {' | '.join(map(_title, names))} | read from |"
        yield "|" + "---|" * (len(names) + 2)
        for one in figures:
            values = (f"{one.figures[name]:.2f}" if name in one.figures else "" for name in names)
            yield f"| {data_name(*one.data)}: {one.title} | {' | '.join(values)} | `{one.file}` |"
        yield ""
    for one in figures:
        asked = {"every": "every caption a query", "distinct": "each distinct caption once"}.get(one.protocol or "")
        counts = f"{one.counts[0]} images and {one.counts[1]} texts as queries" if one.counts else ""
        if said := "; ".join(filter(None, (asked, counts))):
            yield f"- {one.title}: {said}."
    for sentence in run.missing if run else ("no figures: the model was not exported from a checkpoint of a run",):
        yield f"- {sentence[:1].upper()}{sentence[1:]}."
    if figures:
        yield "- The weights are stored in half precision or less; the figures were measured before that."
    if run and run.figures:
        if run.seen not in (None, (source.image_size, source.max_words)):
            yield "- The figures were measured with pictures of {0} by {0} pixels and {1} words.".format(*run.seen)
        yield f"- {_choice(run)}"


def _choice(run: TrainedRun) -> str:
    if run.monitor is None:
        return f"The checkpoint is the state after epoch {run.epoch} (from 0); no split is known to have chosen it."
    holdout = (run.settings.get("data") or {}).get("holdout")
    split = f"{100 * holdout:g} % of the training images, held out" if holdout else "the validation split"
    of = f"on {split}, whose own figures are therefore flattering" if run.monitor.startswith("val/") else "in training"
    return f"Epoch {run.epoch} (from 0) was chosen by `{run.monitor}`, {of}."


def _needs(folder: Path) -> list[str]:
    """What is not stored in the folder, by its own settings."""
    encoder = read_settings(folder)["encoder"]
    needs: dict[str, None] = {"the package rsretrieval": None}
    for tower in towers_of(encoder):
        kind, _, rest = (tower.weights or "").partition(":")
        if kind == "package":
            needs[f"the installed package `{rest}`, for weights of `{tower.name}`"] = None
        elif tower.weights:
            needs[f"weights of `{tower.name}` of {tower.library} (`{tower.weights}`), fetched when it is loaded"] = None
        elif tower.library == "transformers" and not tower.name.startswith("./"):
            needs[f"configuration and tokeniser of `{tower.name}` of transformers"] = None
        if tower.lora:
            needs["peft (`pip install 'rsretrieval[lora]'`)"] = None
        if tower.library not in BUILT_IN:
            needs[f"the file that registers the library `{tower.library}` of towers (`--plugins`)"] = None
    return [f"- {need}" for need in needs] + ([] if len(needs) > 1 else ["", "Every tensor is in the folder."])


def _limits(source: ModelSource, run: TrainedRun | None, licence: str | None) -> Iterator[str]:
    trained, config = source.encoder.preprocessing, source.encoder
    bands = f" of {trained.channels} bands" if trained.channels != 3 else ""
    yield "Search of overhead pictures by sentences, of sentences by pictures, and of pictures by pictures.\n"
    yield f"- Pictures{bands} are brought to {source.image_size} by {source.image_size} pixels ({trained.resize})."
    if trained.channels == 3 and not trained.scale:
        yield "- Pictures that are not of 8 bits are refused unless a scale is given."
    if config.cleans_texts:
        yield f"- Sentences lose case and punctuation, and what is beyond {source.max_words} words."
    of = ", ".join(sorted({data_name(*one.data) for one in run.figures})) if run and run.figures else ""
    yield (
        f"- It was evaluated on {of} alone: nothing is known of other places, sensors or ways to write."
        if of
        else ("- It is not known how well it works on any data.")
    )
    yield f"- Licence: {licence}." if licence else "- No licence was stated: ask who published it."
