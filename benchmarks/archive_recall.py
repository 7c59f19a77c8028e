"""An archive against `validate`: RSICD's validation images, searched by their captions, by each kind and type.

Prints what `validate` reports with ties against and for, and the same three figures (text to image) of searches.

    python benchmarks/archive_recall.py --path FOLDER [--dtypes float16] [--kinds flat] [--captions 1]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

import torch

from rsretrieval import RetrievalDataModule, Retriever
from rsretrieval.archive import Archive, build_index
from rsretrieval.archive.embedding import embed
from rsretrieval.data.captions import clean
from rsretrieval.data.pictures import read_pictures
from rsretrieval.metrics import retrieval_recall

KS = (1, 5, 10)


def main() -> None:
    """Print one line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", required=True)
    parser.add_argument("--model", default="rsicd-lite")
    parser.add_argument("--captions", type=int, default=0, help="of every image's; 0 for all")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float16", "int8"])
    parser.add_argument("--kinds", nargs="+", default=["flat", "hnsw", "lancedb"])
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    retriever = Retriever.from_pretrained(options.model)
    source = RetrievalDataModule("parquet", options.path).source
    records = source.records("valid")
    captions = [
        (row, text) for row, record in enumerate(records) for text in record.captions[: options.captions or None]
    ]
    texts = [(row, text) for row, text in captions if clean(text)]  # as `validate` leaves out what has no word
    pictures = read_pictures(source, "valid", range(len(records)), 0.0, retriever.rendering)
    images = retriever.encode_images(picture for _, picture in pictures)
    sentences = retriever.encode_texts([caption for _, caption in texts])
    owners = torch.tensor([row for row, _ in texts])
    for ties in ("pessimistic", "optimistic"):
        figures = retrieval_recall(image=images, text=sentences, owners=owners, ks=KS, ties=ties)
        print(f"validate, ties {ties}: " + " ".join(f"{figures[f't2i_R@{k}']:.2f}" for k in KS))  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        for dtype in options.dtypes:
            to = Path(folder) / dtype
            embed(retriever, str(next(Path(options.path).glob("valid*.parquet"))), to, dtype=dtype, progress=False)
            for kind in options.kinds:
                built = build_index(to, kind)
                figures = searched(to, retriever, texts, records, kind)
                print(f"{dtype}, {kind}: {figures}; recall@10 {built.recall_at_10:.4f}")  # noqa: T201


def searched(folder: Path, retriever: Retriever, texts: list, records: list, kind: str) -> str:
    """Recall at 1, 5 and 10 of searches by the captions, in percent."""
    archive = Archive.open(folder, retriever, kind=kind)
    results = archive.search_each([caption for _, caption in texts], k=max(KS))
    hits = dict.fromkeys(KS, 0)
    for (row, _), result in zip(texts, results, strict=True):
        names = [answer.source.partition("::")[2] for answer in result.answers]
        for k in KS:
            hits[k] += records[row].filename in names[:k]
    return " ".join(f"{100 * hits[k] / len(texts):.2f}" for k in KS)


if __name__ == "__main__":
    main()
