"""Some pictures out of many, as a model sees them: what ranges of numbers are taken from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rsretrieval.archive.inputs import find_inputs
from rsretrieval.archive.options import Options
from rsretrieval.archive.pieces import UNREADABLE, Reader, Viewer, reason_of
from rsretrieval.embeddings import ArchiveError
from rsretrieval.models.query_bank import sample

log = logging.getLogger(__name__)
SAMPLES = 128


def sampled_squares(viewer: Viewer, images: Sequence[str], count: int = SAMPLES) -> list[NDArray[Any]]:
    """Pictures and tiles by chance, always the same of the same files.

    Args:
        viewer: the model.
        images: what `rsretrieval embed` takes.
        count: how many, at most.

    Returns:
        Each ``(S, S, 3)``; those that cannot be read are left out, and named in the log.

    Raises:
        ArchiveError: if there is no image, or none can be read.
    """
    reader, squares = Reader(viewer, Options()), []
    inputs = find_inputs(images, Path(Path.cwd().anchor))
    pieces = [piece for item in inputs for piece in reader.pieces(item)]
    for number in sample(len(pieces), count, seed=0):
        try:
            loaded = reader.load(pieces[number])
        except UNREADABLE as error:
            log.warning("%s cannot be read and is left out: %s", pieces[number].id, reason_of(error))
            continue
        if loaded is not None:  # a tile of no data alone
            squares.append(loaded.square)
    if not squares:
        raise ArchiveError(f"none of {', '.join(map(repr, images))} can be read: give other images")
    return squares
