"""``rsretrieval bank``: a model with a bank of queries, so that its scores can be corrected for hubs."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from rsretrieval.cli.lines import lines_with_words
from rsretrieval.cli.plugins import add_plugins, load_plugins

if TYPE_CHECKING:
    from torch import Tensor

    from rsretrieval.data import RetrievalDataModule
    from rsretrieval.models.refinement import RefinementConfig
    from rsretrieval.retriever import Retriever

log = logging.getLogger(__name__)
DESCRIPTION = """Give a model a bank of queries, and write it as a folder, as export does.

With it Retriever.hub_bias corrects an archive for hubs, and so does rsretrieval test --model.pretrained FOLDER
--model.hubness.queries bank. A text file gives captions alone; a data set gives pairs of captions and images, by which
--refinement refines what the model gives."""
OF_THE_DATA = ("columns", "scale", "bands", "holdout", "max_broken", "revision", "configuration")
"""Settings of ``RetrievalDataModule`` that matter here, beside source and path."""


def main(arguments: Sequence[str]) -> None:
    """Run ``bank``, the first of the arguments."""
    options: Any = vars(_parse(arguments[1:]))
    load_plugins(options.pop("plugins"))
    sys.stdout.write(run(**options) + "\n")


def _parse(arguments: Sequence[str]) -> Any:  # noqa: ANN401
    from rsretrieval.data import RetrievalDataModule
    from rsretrieval.models.refinement import RefinementConfig

    parser = ArgumentParser(prog="rsretrieval bank", description=DESCRIPTION)
    parser.add_argument("model", type=str, help="what Retriever.from_pretrained takes: a name, folder or checkpoint")
    parser.add_argument(
        "--captions", type=str, required=True,
        help="a text file, one caption a line; or a data set: a name of the list, OWNER/NAME of the hub, or "
        "SOURCE:PATH (a table is folder:FILE or parquet:FOLDER)",
    )  # fmt: skip
    parser.add_argument("--to", type=str, required=True, help="the folder to write to")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="train", help="of a data set")
    parser.add_argument("--size", type=int, default=2048, help="captions, each with its image, that are kept")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of them")
    parser.add_argument("--int8", type=bool, default=False, help="see rsretrieval export")
    parser.add_argument("--standalone", type=bool, default=False, help="see rsretrieval export")
    parser.add_argument("--device", type=str, default="cpu", help="where to compute, such as cuda")
    parser.add_argument("--trust_remote_code", type=bool, default=False, help="let the model run code that it brings")
    parser.add_argument(
        "--refinement", type=RefinementConfig | None, default=None,
        help="refine embeddings by the bank, such as --refinement.hubs 0.5; null to leave that as the model has it",
    )  # fmt: skip
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
    refinement: RefinementConfig | None = None,
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
        ValueError: for a size below 1, or for a memory of captions alone.
    """
    from dataclasses import replace

    from rsretrieval.models.exported import write_folder
    from rsretrieval.models.inputs import on_device
    from rsretrieval.models.pretrained import find_model
    from rsretrieval.models.query_bank import QueryBank
    from rsretrieval.retriever import Retriever

    file = Path(captions).expanduser()
    texts = read_captions(file) if file.is_file() or file.suffix == ".txt" else None
    source = find_model(model, trust_remote_code=trust_remote_code)
    refinement = refinement or source.encoder.refinement
    if texts is not None and refinement is not None and refinement.memory:
        raise ValueError(
            f"--captions '{captions}' has no images, and a memory is of pairs: give a data set, or "
            "--refinement.memory 0"
        )
    settings = dict(vars(data))
    own = (source.image_size, source.max_words, None)
    retriever = Retriever(on_device(source.build(), device), *own, settings["scale"], settings["bands"])
    encoder = retriever.model
    if encoder.bank is not None:
        log.info("'%s' has a query bank already: the new one takes its place", model)
    encoder.bank = None  # which would refine what goes into the new one
    if texts is not None:
        text, image = bank_of_texts(retriever, texts, size, seed), None
    else:
        text, image = _pairs_of_data(retriever, captions, split, settings, size, seed)
    encoder.cpu().bank = QueryBank.holding(text, image, refinement)
    encoder.config = replace(encoder.config, query_bank=len(text), refinement=refinement)
    write_folder(encoder, source, Path(to).expanduser(), int8=int8, standalone=standalone)
    return f"a bank of {len(text)} captions and {0 if image is None else len(image)} images; the model with it: {to}"


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


def bank_of_texts(retriever: Retriever, texts: Sequence[str], size: int, seed: int) -> Tensor:
    """Embeddings ``(Q, d)`` of ``size`` of the texts, chosen by chance."""
    return retriever.encode_texts([texts[number] for number in _chosen(len(texts), size, seed)])


def _pairs_of_data(
    retriever: Retriever, name: str, split: str, settings: dict[str, Any], size: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Embeddings ``(Q, d)`` of ``size`` captions of a split, chosen by chance, and of the image of each."""
    import torch

    from rsretrieval.data import RetrievalDataModule
    from rsretrieval.data.datasets.registry import source_and_path

    source_name, path = source_and_path(name)
    data = RetrievalDataModule(source_name, path, max_words=retriever.max_words, **settings)
    config = retriever.model.config
    data.serve(retriever.model.tokenizer, config.preprocessing, as_written=not config.cleans_texts)
    data.source.prepare()
    captions = [(row, text) for row, texts in enumerate(data.table(split).captions) for text in texts]
    pairs = [captions[number] for number in _chosen(len(captions), size, seed)]
    images = _images(retriever, data, split, sorted({row for row, _ in pairs}))
    pairs = [pair for pair in pairs if pair[0] in images]  # the log says which cannot be read
    return retriever.encode_texts([text for _, text in pairs]), torch.stack([images[row] for row, _ in pairs])


def _images(retriever: Retriever, data: RetrievalDataModule, split: str, rows: Sequence[int]) -> dict[int, Tensor]:
    """Of rows of a split those that can be read, with the embedding of each."""
    from tqdm.auto import tqdm

    from rsretrieval.data.pictures import read_pictures

    there: list[int] = []
    pictures = read_pictures(data.source, split, rows, data.max_broken, retriever.rendering)

    def noted() -> Iterator[Any]:
        for row, picture in tqdm(pictures, total=len(rows), unit=" images"):
            there.append(row)
            yield picture

    vectors = retriever.encode_images(noted(), progress=False)
    return dict(zip(there, vectors, strict=True))


def _chosen(count: int, size: int, seed: int) -> list[int]:
    from rsretrieval.models.query_bank import sample

    if count < size:
        log.info("there are %d captions, fewer than --size %d: all are taken", count, size)
    return sample(count, size, seed)
