"""Can an archive say that there is no such thing? Queries whose scene was held out of it, against others.

For each scene class in turn its images leave the archive; its captions are queries of what is absent, captions of other
classes are queries of what is present. The score of a query is the z-score of its best answer, or its cosine; AUROC is
the chance that a present query scores above an absent one. One caption an image, on RSICD's validation split.

    python benchmarks/absent.py --path FOLDER [--model rsicd-lite]
"""

from __future__ import annotations

import argparse

import numpy as np
from tqdm import tqdm

from rsretrieval import RetrievalDataModule, Retriever
from rsretrieval.data.pictures import labelled_rows, read_pictures


def auroc(present: np.ndarray, absent: np.ndarray) -> float:
    """Chance that a present query scores above an absent one; ties count half."""
    ranks = np.argsort(np.argsort(np.concatenate([present, absent]), kind="stable"), kind="stable") + 1
    return float((ranks[: len(present)].sum() - len(present) * (len(present) + 1) / 2) / (len(present) * len(absent)))


def main() -> None:
    """Print AUROC by cosine and by z-score, over all classes and the extremes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", required=True)
    parser.add_argument("--model", default="rsicd-lite")
    options = parser.parse_args()
    retriever = Retriever.from_pretrained(options.model)
    data = RetrievalDataModule("parquet", options.path)
    rows = labelled_rows(data.source, "valid")
    captions = [data.source.records("valid")[row].captions[0] for row in rows.rows]
    pictures = read_pictures(data.source, "valid", rows.rows, 0.0, retriever.rendering)
    images = retriever.encode_images(tqdm([picture for _, picture in pictures])).numpy()
    texts = retriever.encode_texts(captions).numpy()
    bank = retriever.model.bank.of("texts").numpy()
    scores, labels = texts @ images.T, np.array(rows.labels)
    known = images @ bank.T
    z = (scores - known.mean(1)) / known.std(1)
    results = {"cosine": [], "z": []}
    for label in sorted(set(labels)):
        kept, out = labels != label, labels == label
        for name, matrix in (("cosine", scores), ("z", z)):
            best = matrix[:, kept].max(1)
            results[name].append((auroc(best[kept], best[out]), label))
    for name, values in results.items():
        mean = np.mean([value for value, _ in values])
        print(f"{name}: AUROC {mean:.3f} over {len(values)} classes; lowest {min(values)}, highest {max(values)}")  # noqa: T201


if __name__ == "__main__":
    main()
