"""What a person sees of a classification: a summary, two tables, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from rsretrieval.classification.zero_shot import Classification
from rsretrieval.files import write_csv, write_png
from rsretrieval.metrics.confusion_picture import draw_confusion

PREDICTIONS, CLASSES, PICTURE = "predictions.csv", "classes.csv", "confusion.png"


def summary(result: Classification, worst: int = 5) -> str:
    """The accuracy, of how many images, and the classes that are worst.

    Args:
        result: of :func:`rsretrieval.classification.classify`.
        worst: how many classes to name.
    """
    figures = result.accuracy
    left_out = [(result.broken, "cannot be read"), (result.without, "have no label")]
    notes = "".join(f"; {count} {why}" for count, why in left_out if count)
    rows = sorted((row for row in class_rows(result) if row.images), key=lambda row: row.accuracy)
    first = (
        f"accuracy {figures.overall:.2f} %, mean of classes {figures.mean_of_classes:.2f} %, of {len(result.names)} "
        f"images in {len(rows)} classes, {len(result.texts)} to choose from{notes}"
    )
    width = max(len(row.label) for row in rows)
    lines = (
        f"  {row.label:<{width}}  {row.accuracy:6.2f} %" + (f", most taken for {row.mistaken}" if row.mistaken else "")
        for row in rows[:worst]
    )
    return "\n".join([first, *lines])


class ClassRow(NamedTuple):
    """One class.

    Attributes:
        label: its name.
        text: that it was told by.
        images: of it.
        accuracy: in percent; NaN without images.
        mistaken: the class that its images are most often taken for by mistake; empty for none.
    """

    label: str
    text: str
    images: int
    accuracy: float
    mistaken: str


def class_rows(result: Classification) -> list[ClassRow]:
    """A row for each class."""
    classes, accuracies = list(result.texts), result.accuracy.by_class
    rows = []
    for number, (counts, value) in enumerate(zip(result.confusion.clone(), accuracies, strict=True)):
        images = int(counts.sum())
        counts[number] = 0
        mistaken = classes[int(counts.argmax())] if int(counts.sum()) else ""
        rows.append(ClassRow(classes[number], result.texts[classes[number]], images, value, mistaken))
    return rows


def write_classification(result: Classification, folder: Path) -> list[Path]:
    """Write a CSV of the classes, one of the images, and the picture of confusions.

    Args:
        result: of :func:`rsretrieval.classification.classify`.
        folder: is made.

    Returns:
        The files.
    """
    classes = list(result.texts)
    predictions = (
        (name, classes[label], classes[predicted], f"{cosine:.4f}", int(label == predicted))
        for name, label, predicted, cosine in zip(
            result.names, result.labels.tolist(), result.predicted.tolist(), result.cosines.tolist(), strict=True
        )
    )
    rows = ((*row[:3], f"{row.accuracy:.2f}" if row.images else "", row.mistaken) for row in class_rows(result))
    write_csv(folder / CLASSES, [("class", "text", "images", "accuracy", "most_taken_for"), *rows])
    write_csv(folder / PREDICTIONS, [("filename", "class", "predicted", "cosine", "right"), *predictions])
    write_png(folder / PICTURE, draw_confusion(result.confusion, classes))
    return [folder / name for name in (CLASSES, PREDICTIONS, PICTURE)]
