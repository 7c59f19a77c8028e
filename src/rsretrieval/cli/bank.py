"""``rsretrieval bank``: a model with a bank of queries, so that its scores can be corrected for hubs."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from rsretrieval.cli.lines import lines_with_words
from rsretrieval.cli.plugins import add_plugins, load_plugins

if TYPE_CHECKING:
    from torch import Tensor

    from rsretrieval.data import RetrievalDataModule
    from rsretrieval.models.query_bank import QueryBank
    from rsretrieval.retriever import Retriever

log = logging.getLogger(__name__)
DESCRIPTION = """Give a model a bank of queries, and write it as a folder, as export does.

With it Retriever.hub_bias corrects an archive for hubs, and so does rsretrieval test --model.pretrained FOLDER
--model.hubness.queries bank. A text file gives captions alone; a data set gives captions and images."""
OF_THE_DATA = ("columns", "scale", "bands", "holdout", "max_broken", "revision", "configuration")
"""Settings of ``RetrievalDataModule`` that matter here, beside source and path."""


def main(arguments: Sequence[str]) -> None:
    """Run ``bank``, the first of the arguments."""
    options: Any = vars(_parse(arguments[1:]))
    load_plugins(options.pop("plugins"))
    sys.stdout.write(run(**options) + "\n")


def _parse(arguments: Sequence[str]) -> Any:  # noqa: ANN401
    from rsretrieval.data import RetrievalDataModule

    parser = ArgumentParser(prog="rsretrieval bank", description=DESCRIPTION)
    parser.add_argument("model", type=str, help="what Retriever.from_pretrained takes: a name, folder or checkpoint")
    parser.add_argument(
        "--captions", type=str, required=True,
        help="a text file, one caption a line; or a data set: a name of the list, OWNER/NAME of the hub, or "
        "SOURCE:PATH (a table is folder:FILE or parquet:FOLDER)",
    )  # fmt: skip
    parser.add_argument("--to", type=str, required=True, help="the folder to write to")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="train", help="of a data set")
    parser.add_argument("--size", type=int, default=2048, help="captions, and as many images, that are kept")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of them")
    parser.add_argument("--int8", type=bool, default=False, help="see rsretrieval export")
    parser.add_argument("--standalone", type=bool, default=False, help="see rsretrieval export")
    parser.add_argument("--device", type=str, default="cpu", help="where to compute, such as cuda")
    parser.add_argument("--trust_remote_code", type=bool, default=False, help="let the model run code that it brings")
    others = set(inspect.signature(RetrievalDataModule).parameters) - set(OF_THE_DATA)
    parser.add_class_arguments(RetrievalDataModule, "data", skip=others, instantiate=False)
    add_plugins(parser)
    return parser.instantiate(parser.parse_args(list(arguments)))


def run(
    model: str,
    captions: str,
    to: str,
    split: str,
    size: int,
    seed: int,
    data: Any,  # noqa: ANN401 - settings
    *,
    int8: bool,
    standalone: bool,
    device: str,
    trust_remote_code: bool,
) -> str:
    """Write the model with its bank; what was done, in words.

    Raises:
        DataError: if there are no captions, or too much is broken.
        PretrainedError: if there is no such model.
        ValueError: for a size below 1.
    """
    from dataclasses import replace

    from rsretrieval.models.exported import write_folder
    from rsretrieval.models.pretrained import find_model
    from rsretrieval.retriever import Retriever

    file = Path(captions).expanduser()
    texts = read_captions(file) if file.is_file() or file.suffix == ".txt" else None
    source = find_model(model, trust_remote_code=trust_remote_code)
    settings = dict(vars(data))
    retriever = Retriever(
        source.build().to(device), source.image_size, source.max_words, None, settings["scale"], settings["bands"]
    )
    if retriever.model.bank is not None:
        log.info("'%s' has a query bank already: the new one takes its place", model)
    if texts is not None:
        bank = bank_of_texts(retriever, texts, size, seed)
    else:
        bank = _bank_of_data(retriever, captions, split, settings, size, seed)
    encoder = retriever.model.cpu()
    encoder.bank, encoder.config = bank, replace(encoder.config, query_bank=len(bank.text))
    write_folder(encoder, source, Path(to).expanduser(), int8=int8, standalone=standalone)
    images, sentences = map(len, bank.queries())
    return f"a bank of {sentences} captions and {images} images; the model with it: {to}"


def read_captions(file: Path) -> list[str]:
    """The lines of a text file that have a word.

    Raises:
        DataError: naming the file, if it is not there, has no such line, or is a table.
    """
    from rsretrieval.data import DataError
    from rsretrieval.data.datasets.text_files import SUFFIXES

    if file.suffix.lower() in SUFFIXES | {".parquet", ".arrow"}:
        name = f"parquet:{file.parent}" if file.suffix.lower() in (".parquet", ".arrow") else f"folder:{file}"
        raise DataError(
            f"--captions: '{file}' is a table, not a text of one caption a line: give it as a data set, {name} "
            "(folder:FILE for a table in text, parquet:FOLDER for parquet or arrow)"
        )
    return lines_with_words(file, "--captions", "caption", DataError)


def bank_of_texts(retriever: Retriever, texts: Sequence[str], size: int, seed: int) -> QueryBank:
    """A bank of ``size`` of the texts, chosen by chance, and of no images."""
    from rsretrieval.models.query_bank import QueryBank

    return QueryBank.holding(_text_queries(retriever, texts, size, seed))


def _bank_of_data(
    retriever: Retriever, name: str, split: str, settings: dict[str, Any], size: int, seed: int
) -> QueryBank:
    """A bank of ``size`` images and ``size`` captions of a split, each chosen by chance."""
    from rsretrieval.data import RetrievalDataModule
    from rsretrieval.data.datasets.registry import source_and_path
    from rsretrieval.models.query_bank import QueryBank

    source_name, path = source_and_path(name)
    data = RetrievalDataModule(source_name, path, max_words=retriever.max_words, **settings)
    config = retriever.model.config
    data.serve(retriever.model.tokenizer, config.preprocessing, as_written=not config.cleans_texts)
    data.source.prepare()
    captions = data.table(split).captions
    image = _image_queries(retriever, data, split, [row for row, texts in enumerate(captions) if texts], size, seed)
    return QueryBank.holding(
        _text_queries(retriever, [text for texts in captions for text in texts], size, seed), image
    )


def _text_queries(retriever: Retriever, texts: Sequence[str], size: int, seed: int) -> Tensor:
    chosen = _chosen("captions", len(texts), size, seed)
    return retriever.encode_texts([texts[number] for number in chosen])


def _image_queries(
    retriever: Retriever, data: RetrievalDataModule, split: str, rows: Sequence[int], size: int, seed: int
) -> Tensor:
    from tqdm.auto import tqdm

    from rsretrieval.data.pictures import read_pictures

    chosen = [rows[number] for number in _chosen("images", len(rows), size, seed)]
    pictures = read_pictures(data.source, split, chosen, data.max_broken, retriever.rendering)
    shown = tqdm(pictures, total=len(chosen), unit=" images")
    return retriever.encode_images((picture for _, picture in shown), progress=False)


def _chosen(kind: str, count: int, size: int, seed: int) -> list[int]:
    from rsretrieval.models.query_bank import sample

    if count < size:
        log.info("there are %d %s, fewer than --size %d: all are taken", count, kind, size)
    return sample(count, size, seed)
