"""``rsretrieval classify``: zero-shot scene classification of a data set whose images have labels."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from rsretrieval.cli.plugins import add_plugins, load_plugins

if TYPE_CHECKING:
    from rsretrieval.classification import Classification
    from rsretrieval.data import RetrievalDataModule

DESCRIPTION = """Classify images by the names of their classes, without training: accuracy, per class, and confusions.

An image is of the class whose text is nearest. Labels are those of --data.scene_file, a column, folders of classes
(--data.source classes), or the beginnings of file names."""
OF_THE_DATA = (
    "source", "path", "columns", "scene_file", "scale", "bands", "holdout", "max_broken", "revision", "configuration",
)  # fmt: skip
"""Settings of ``RetrievalDataModule`` that images without captions have."""
SPLITS = ("train", "valid", "test")


def main(arguments: Sequence[str]) -> None:
    """Run ``classify``, the first of the arguments."""
    options: Any = vars(_parse(arguments[1:]))
    load_plugins(options.pop("plugins"))
    settings = vars(options.pop("data"))
    split = settings.pop("split")
    from rsretrieval.data import RetrievalDataModule

    to = options.pop("to")
    result = run(RetrievalDataModule(**settings), split, settings["scale"], settings["bands"], **options)
    from rsretrieval.classification import summary, write_classification

    sys.stdout.write(summary(result) + "\n")
    if to is not None:
        files = write_classification(result, Path(to).expanduser())
        sys.stdout.write("written: " + ", ".join(map(str, files)) + "\n")


def _parse(arguments: Sequence[str]) -> Any:  # noqa: ANN401
    from rsretrieval.data import RetrievalDataModule

    parser = ArgumentParser(prog="rsretrieval classify", description=DESCRIPTION)
    parser.add_argument("model", type=str, help="what Retriever.from_pretrained takes: a name, folder or checkpoint")
    others = set(inspect.signature(RetrievalDataModule).parameters) - set(OF_THE_DATA)
    parser.add_class_arguments(RetrievalDataModule, "data", skip=others, instantiate=False)
    parser.add_argument("--data.split", choices=SPLITS, default="test", help="the split to classify")
    parser.add_argument(
        "--templates", type=list[str] | str | None, default=None,
        help="of every class's text, such as 'a satellite photo of {}'; several are averaged: a list, or a text file "
        "with one a line; null for 18 like CLIP's for RESISC45",
    )  # fmt: skip
    parser.add_argument("--names", type=str | None, default=None, help="JSON of class to text, where the name differs")
    parser.add_argument("--to", type=str | None, default=None, help="folder for two CSVs and the picture of confusions")
    parser.add_argument("--batch_size", type=int, default=64, help="images that are embedded at once")
    parser.add_argument("--device", type=str, default="cpu", help="where to compute, such as cuda")
    parser.add_argument("--trust_remote_code", type=bool, default=False, help="let the model run code that it brings")
    add_plugins(parser)
    return parser.instantiate(parser.parse_args(list(arguments)))


def run(
    data: RetrievalDataModule,
    split: str,
    scale: str | None = None,
    bands: str | None = None,
    *,
    model: str,
    templates: Sequence[str] | str | None = None,
    names: str | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    trust_remote_code: bool = False,
) -> Classification:
    """Classify a split.

    Args:
        data: its source, scene file and fraction of broken rows.
        split: ``train``, ``valid`` or ``test``.
        scale: of images that are not 8-bit; None for the model's own.
        bands: which become red, green and blue; None for the model's own.
        model: any name of ``Retriever.from_pretrained``.
        templates: see :func:`rsretrieval.classification.texts.read_templates`.
        names: JSON file of class to text.
        batch_size: images that are embedded at once.
        device: where to compute.
        trust_remote_code: let the model run Python code that comes with it.

    Raises:
        DataError: if the split has no labels, or too many images are broken.
        PretrainedError: if there is no such model.
    """
    from tqdm.auto import tqdm

    from rsretrieval.classification.texts import class_texts, read_names, read_templates
    from rsretrieval.classification.zero_shot import classify
    from rsretrieval.data.pictures import labelled_rows, read_pictures
    from rsretrieval.retriever import Retriever

    if batch_size < 1:
        raise ValueError(f"--batch_size {batch_size} is too small: give a whole number, 1 or more")
    chosen = read_templates(templates)
    data.source.prepare()
    labelled = labelled_rows(data.source, split, data.scene_file)
    texts = class_texts(labelled.labels, read_names(names) if names else None)
    retriever = Retriever.from_pretrained(
        model, device, scale=scale, bands=bands, trust_remote_code=trust_remote_code
    )  # fmt: skip
    config = retriever.model.config
    pictures = read_pictures(
        data.source, split, labelled.rows, data.max_broken, retriever.rendering,
        decoded=config.preprocessing.channels == 3,
    )  # fmt: skip
    shown = tqdm(pictures, total=len(labelled.rows), unit=" images")
    return classify(retriever, shown, labelled, texts, chosen, batch_size)
