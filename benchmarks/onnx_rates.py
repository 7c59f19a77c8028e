"""A model by torch, by ONNX in float32 and by ONNX in eight bits: mR on RSICD's validation split, images/s, size.

Eight bits are calibrated on 128 training images. Rates are medians of `--rounds` over `--images` squares that are in
memory, turn by turn in one process.

    python benchmarks/onnx_rates.py --path FOLDER [--model rsicd-lite] [--images 64] [--rounds 3] [--rows 0]
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path

import torch

from rsretrieval import RetrievalDataModule, Retriever, cli
from rsretrieval.data.captions import clean
from rsretrieval.data.datasets.base import Source
from rsretrieval.data.pictures import read_pictures
from rsretrieval.metrics import retrieval_recall


def exported(model: str, images: Path, folder: Path) -> dict[str, Path]:
    """Folders of the model's graphs, in float32 and in eight bits."""
    command = ["export", model, "--form", "onnx", "--to"]
    cli.main([*command, str(folder / "float32")])
    calibrate = ["--int8", "true", "--calibrate", *map(str, sorted(images.glob("train-*.parquet")))]
    cli.main([*command, str(folder / "int8"), *calibrate])
    return {name: folder / name for name in ("float32", "int8")}


def figure(retriever: Retriever, source: Source, rows: int) -> float:
    """What a model reaches on the first rows of the validation split: mR in percent."""
    records = list(source.records("valid"))[: rows or None]
    texts = [(row, text) for row, record in enumerate(records) for text in record.captions if clean(text)]
    pictures = read_pictures(source, "valid", range(len(records)), 0.0, retriever.rendering)
    images = retriever.encode_images(picture for _, picture in pictures)
    sentences = retriever.encode_texts([text for _, text in texts])
    owners = torch.tensor([row for row, _ in texts])
    return retrieval_recall(image=images, text=sentences, owners=owners)["mR"]


def rates(retrievers: dict[str, Retriever], source: Source, images: int, rounds: int) -> dict[str, float]:
    """Images/s of each, turn by turn, so that a busy moment hits all."""
    first = next(iter(retrievers.values()))
    pictures = read_pictures(source, "valid", range(images), 0.0, first.rendering)
    squares = [first.square_of(picture) for _, picture in pictures]
    seconds: dict[str, list[float]] = {name: [] for name in retrievers}
    for number in range(rounds + 1):
        for name, retriever in retrievers.items():
            start = time.perf_counter()
            retriever.encode_squares(squares)
            if number:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
    return {name: len(squares) / statistics.median(each) for name, each in seconds.items()}


def main() -> None:
    """Print one line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", required=True, help="folder of RSICD's parquet files")
    parser.add_argument("--model", default="rsicd-lite")
    parser.add_argument("--images", type=int, default=64, help="squares of which the rates are")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=0, help="of the validation split, for a try; 0 for all")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    source = RetrievalDataModule("parquet", options.path).source
    with tempfile.TemporaryDirectory() as place:
        folders = exported(options.model, Path(options.path), Path(place))
        retrievers = {"torch": Retriever.from_pretrained(options.model)}
        retrievers |= {f"onnx {name}": Retriever.from_pretrained(str(folder)) for name, folder in folders.items()}
        measured = rates(retrievers, source, options.images, options.rounds)
        for name, retriever in retrievers.items():
            sizes = ""
            if name != "torch":
                files = sorted(folders[name.removeprefix("onnx ")].glob("*.onnx"))
                sizes = ", ".join(f"{file.name} {file.stat().st_size / 1e6:.1f} MB" for file in files)
            mean = figure(retriever, source, options.rows)
            print(f"{name}: mR {mean:.2f}, {measured[name]:.2f} images/s {sizes}")  # noqa: T201


if __name__ == "__main__":
    main()
