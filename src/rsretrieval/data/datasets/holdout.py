"""A validation split taken out of the training split, for data sets that come without one (RSITMD)."""

from __future__ import annotations

import numpy as np

from rsretrieval.data.datasets.base import DataError, MissingSplitError, Source
from rsretrieval.data.datasets.rows import first_rows
from rsretrieval.data.datasets.selection import TrainingRows


class HoldoutSource(TrainingRows):
    """A source whose training images are divided into ``train`` and ``valid``.

    Args:
        source: what to divide; it must have no validation split.
        fraction: of the training images that become the validation split, in (0, 1).
        seed: of the choice.

    Raises:
        DataError: if the fraction is out of bounds, or the source has a validation split.
    """

    def __init__(self, source: Source, fraction: float, seed: int = 0) -> None:
        if not 0 < fraction < 1:
            raise DataError(f"holdout={fraction} is no fraction of the images: give a number between 0 and 1")
        _refuse_validation_split(source, fraction)
        # By image, never by row: all rows of one image are on one side.
        firsts = np.array(first_rows(source.names("train")), np.int64)
        images, image_of_row = np.unique(firsts, return_inverse=True)
        chosen_images = np.zeros(len(images), bool)
        order = np.random.default_rng(seed).permutation(len(images))
        count = round(fraction * len(images))
        if not 0 < count < len(images):
            raise DataError(
                f"holdout={fraction} of {len(images)} training images leaves {len(images) - count} to train on and "
                f"{count} to validate on: give another fraction as --data.holdout, or more images"
            )
        chosen_images[order[:count]] = True
        held_out = chosen_images[image_of_row]
        super().__init__(source, {"train": ~held_out, "valid": held_out})


def hold_out(source: Source, fraction: float) -> Source:
    """The source, with a fraction of its training images as ``valid``, the same ones each time; as it is for 0.

    Raises:
        DataError: see :class:`HoldoutSource`.
    """
    return HoldoutSource(source, fraction) if fraction else source


def _refuse_validation_split(source: Source, fraction: float) -> None:
    try:
        rows = len(source.records("valid"))
    except MissingSplitError:
        rows = 0
    if rows:
        raise DataError(
            f"holdout={fraction} would replace the validation split that the data set has ({rows} images): set "
            "--data.holdout 0 to validate on it"
        )
