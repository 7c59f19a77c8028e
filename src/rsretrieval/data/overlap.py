"""``rsretrieval data overlap``: near-duplicate images between two data sets, by perceptual hash and by embedding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rsretrieval.data.datasets.base import SPLITS, Columns, DataError, MissingSplitError
from rsretrieval.data.datasets.exclusion import OVERLAP
from rsretrieval.data.datasets.registry import build_source, source_and_path
from rsretrieval.data.near_duplicates import Embed, Images, Pair, Side, near_pairs, read_images
from rsretrieval.data.perceptual_hash import phash_library
from rsretrieval.files import write_csv

HEADER = (*OVERLAP, "distance", "cosine")


class Overlap(NamedTuple):
    """What was found.

    Attributes:
        pairs: how many.
        images: of A that have a near-duplicate in B.
        of: images of A.
        text: the same in words.
    """

    pairs: int
    images: int
    of: int
    text: str


def overlap(
    a: str,
    b: str,
    to: str,
    *,
    splits_a: list[str] | None = None,
    splits_b: list[str] | None = None,
    columns_a: Columns = Columns(),  # noqa: B008 - frozen
    columns_b: Columns = Columns(),  # noqa: B008 - frozen
    revision_a: str | None = None,
    revision_b: str | None = None,
    max_distance: int = 6,
    min_cosine: float = 0.95,
    max_broken: float = 0.01,
    scale: str | None = None,
    bands: str | None = None,
    embed: Embed | None = None,
) -> Overlap:
    """Find images of A that are in B too: compressed again, resized, mirrored, turned by quarters.

    Writes a CSV of all pairs, which ``--data.exclude`` takes to train on A without them. Only images are read, so
    sets without captions will do. Of a set compared with itself each pair is written once, with the image that
    comes first as A's, so that training without those keeps one of each pair.

    Args:
        a: the data set to train on: a name of ``rsretrieval data list``, a hub id ``OWNER/NAME``, or ``SOURCE:PATH``
            such as ``folder:PATH``.
        b: the data set to test on, given in the same way.
        to: the CSV to write: file names and splits of both, hash distance, cosine.
        splits_a: some of train, valid, test; null for all there are.
        splits_b: the same of B.
        columns_a: names of A's columns.
        columns_b: names of B's columns.
        revision_a: hub: commit, tag or branch of A; null for the newest.
        revision_b: hub: commit, tag or branch of B; null for the newest.
        max_distance: bits of 64 in which the perceptual hashes (pHash) of a pair may differ, in the best of 8
            orientations. Copies that were compressed, resized, mirrored or turned differ in 6 at most (measured on
            RSICD); at 8 the first unlike ones are near. Crops are not found.
        min_cosine: with a model, the least cosine that makes a pair whatever the hashes say; of images as they are, not
            turned. It depends on the model: look at the pairs that it adds.
        max_broken: fraction of a split's images that may be left out because they are broken.
        scale: how images that are not 8-bit become 8-bit (:class:`rsretrieval.images.Scale`); null refuses them.
        bands: which of many bands become red, green and blue, such as ``4 3 2``; null for the first three.
        embed: images to embeddings; None to compare hashes alone.

    Raises:
        MissingSplitError: if a set does not have a split that was asked for.
        DataError: if imagehash is not installed, a threshold is out of bounds, or too many images are broken.
    """
    from rsretrieval.images import Rendering

    if not 0 <= max_distance <= 32 or not -1 <= min_cosine <= 1:
        raise DataError(
            f"--max_distance {max_distance} or --min_cosine {min_cosine} is out of bounds: give bits from 0 to 32 "
            "(half of all differ between any two images), and a cosine from -1 to 1"
        )
    phash_library()
    first, second = _side(a, columns_a, splits_a, revision_a), _side(b, columns_b, splits_b, revision_b)
    rendering = Rendering.parse(scale, bands)
    of_a = read_images(first, embed, rendering, max_broken)
    of_b = read_images(second, embed, rendering, max_broken, oriented=True)
    same = (a, revision_a) == (b, revision_b)
    once = same and first.splits == second.splits and columns_a == columns_b
    pairs = near_pairs(of_a, of_b, max_distance, min_cosine, same=same, once=once)
    count, matched = write_pairs(Path(to).expanduser(), of_a, of_b, pairs, once=once)
    text = (
        f"{matched} of {len(of_a.names)} images of {first} have a near-duplicate among the {len(of_b.names)} images of "
        f"{second}: {count} pairs, written to {to}"
    )
    return Overlap(count, matched, len(of_a.names), text)


def _side(name: str, columns: Columns, splits: Sequence[str] | None, revision: str | None) -> Side:
    """The splits of a data set that are there, or those that were asked for.

    Raises:
        MissingSplitError: if one of these is not there, or none is.
    """
    source_name, path = source_and_path(name)
    source = build_source(source_name, path, columns, revision)
    unknown = [split for split in splits or () if split not in SPLITS]
    if unknown:
        raise DataError(f"there is no split {unknown}; possible are {list(SPLITS)}: set --splits_a and --splits_b")
    there = []
    for split in [split for split in SPLITS if split in (splits or SPLITS)]:
        try:
            source.records(split)
        except MissingSplitError:
            if splits:
                raise
            continue
        there.append(split)
    if not there:
        raise MissingSplitError(f"'{name}' has no split with a name that is known ({list(SPLITS)}): look at its files")
    return Side(name, source, tuple(there))


def write_pairs(
    file: Path, of_a: Images, of_b: Images, pairs: Iterable[Pair], *, once: bool = False
) -> tuple[int, int]:
    """Write pairs as a CSV, as they come; whole or not at all.

    Args:
        file: to write.
        of_a: the first images.
        of_b: the second images.
        pairs: rows of both.
        once: both are the same images, and each pair is there once.

    Returns:
        How many pairs there are, and how many of the first images are in any.
    """
    count = 0
    matched: set[int] = set()

    def rows() -> Iterator[Sequence[object]]:
        nonlocal count
        yield HEADER
        for a, b, distance, cosine in pairs:
            yield (
                *(of_a.names[a], of_a.splits[a], of_b.names[b], of_b.splits[b]),
                *(distance, "" if cosine is None else f"{cosine:.4f}"),
            )
            count += 1
            matched.update((a, b) if once else (a,))

    write_csv(file, rows())
    return count, len(matched)
