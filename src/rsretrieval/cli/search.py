"""``rsretrieval search``: what an archive has for a sentence, a picture, or both."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from rsretrieval.cli.lines import lines_with_words
from rsretrieval.cli.plugins import add_plugins, load_plugins

if TYPE_CHECKING:
    from rsretrieval.archive import Results

log = logging.getLogger(__name__)
DESCRIPTION = """Search an archive that `rsretrieval embed` and `rsretrieval index` made.

By sentences, which stand right behind the archive, by pictures (--image), or by both, which are then composed
(--weight). Several of a kind are one query: 2 x their mean, less the mean of what is not wanted (--not, --not_image).
--bbox and --where are applied before the search, so that there are k answers where there are k rows."""
OF_THE_MODEL = ("model", "kind", "device", "scale", "bands", "trust_remote_code")
BINARY = ("gpkg", "png")


def main(arguments: Sequence[str]) -> None:
    """Run ``search``, the first of the arguments."""
    options: Any = vars(_parse(arguments[1:]))
    load_plugins(options.pop("plugins"))
    to, name = options.pop("to"), options.pop("format")
    name = name or (Path(to).suffix.removeprefix(".").lower() if to else "table")
    _check_output(to, name)
    results = run(**options)
    for result in results:
        if result.note:
            log.info("%s", f"{result.query}: {result.note}" if len(results) > 1 else result.note)
    from rsretrieval.archive.search.formats import FORMATS, write

    if to is None:
        sys.stdout.write(str(FORMATS[name](results)))
    else:
        write(results, Path(to).expanduser(), name)
        sys.stdout.write(f"written: {to}\n")


def _parse(arguments: Sequence[str]) -> Any:  # noqa: ANN401
    parser = ArgumentParser(prog="rsretrieval search", description=DESCRIPTION)
    add = parser.add_argument
    add("archive", type=str, help="its folder")
    add("text", type=str, nargs="*", default=[], help="what is looked for; further ones describe the same")
    add("--image", type=str, nargs="+", action="append", default=[], help="pictures of what is looked for")
    add("--not", type=str, nargs="+", action="append", default=[], help="texts of what is not looked for")
    add("--not_image", "--not-image", type=str, nargs="+", action="append", default=[], help="pictures of such")
    add("--queries", type=str | None, default=None, help="a text file of one query a line, in place of the texts")
    add("--k", type=int, default=5, help="answers to each query")
    add(
        "--format", type=str | None, default=None,
        help="table, json, geojson, csv, gpkg (a GeoPackage) or png (a contact sheet); by default as --to ends",
    )  # fmt: skip
    add("--to", type=str | None, default=None, help="the file to write; the terminal otherwise")
    add("--bbox", type=str | None, default=None, help="west,south,east,north in degrees; west > east: antimeridian")
    add("--where", type=str | None, default=None, help="a condition in SQL, such as \"datetime > '2024-06-01'\"")
    add("--weight", type=float, default=0.6, help="of the texts, from 0 to 1, where there are pictures too")
    add("--factors", type=tuple[float, float], default=(2.0, 1.0), help="of what is looked for, and of what is not")
    add("--hubness", type=bool, default=False, help="correct the scores for hubs by the model's bank of queries")
    add("--min_z", "--min-z", type=float | None, default=None, help="leave out answers whose z is below, such as 2")
    add("--fold", type=float | None, default=None, help="cosine of near-duplicates, shown as one, such as 0.97")
    add("--kind", type=str | None, default=None, help="of the index; by default the one that was built last")
    add("--model", type=str | None, default=None, help="where the archive's model is, if it is not where it was")
    add("--device", type=str, default="cpu", help="where queries are embedded, such as cuda")
    add("--scale", type=str | None, default=None, help="of pictures to search by that are not 8-bit")
    add("--bands", type=str | None, default=None, help="of pictures to search by that are red, green and blue")
    add("--trust_remote_code", type=bool, default=False, help="let the model run code that it brings")
    add_plugins(parser)
    return parser.instantiate(parser.parse_args(_with_box(arguments)))


def _with_box(arguments: Sequence[str]) -> list[str]:
    """``--bbox -74,…`` as ``--bbox=-74,…``: argparse takes what begins with a dash for an option."""
    rest, joined = list(arguments), []
    while rest:
        first = rest.pop(0)
        joined.append(f"{first}={rest.pop(0)}" if first == "--bbox" and rest else first)
    return joined


def _check_output(to: str | None, name: str) -> None:
    """Refuse what cannot be written, before anything is searched."""
    from rsretrieval.archive import ArchiveError
    from rsretrieval.archive.search.formats import check_format

    if to is not None and Path(to).expanduser().is_dir():
        raise ArchiveError(f"--to '{to}' is a folder: give a file")
    if to is not None and not name:
        raise ArchiveError(
            f"--to '{to}' has no ending that says its format: end it in .csv or the like, or give --format"
        )
    check_format(name)
    if to is None and name in BINARY:
        raise ArchiveError(f"--format {name} does not go to a terminal: give a file by --to")


def run(
    archive: str, text: list[str], queries: str | None, image: list[list[str]], **options: Any  # noqa: ANN401
) -> list[Results]:  # fmt: skip
    """Search by each query.

    Args:
        archive: its folder.
        text: sentences of one query.
        queries: a file of one query a line, in place of them; None for one query.
        image: pictures of every query, as lists.
        **options: of :meth:`rsretrieval.archive.Archive.open` and ``search``, ``not`` and ``not_image``.

    Raises:
        ArchiveError: if there is no archive, or a query or an option is not understood.
    """
    from rsretrieval.archive import Archive, ArchiveError

    if queries is not None and text:
        raise ArchiveError("--queries takes the place of texts: leave one of them out")
    lines = (
        None if queries is None else lines_with_words(Path(queries).expanduser(), "--queries", "query", ArchiveError)
    )
    options["negatives_text"], options["negatives_image"] = _flat(options.pop("not")), _flat(options.pop("not_image"))
    opened = Archive.open(archive, **{name: options.pop(name) for name in OF_THE_MODEL})
    if lines is None:
        return [opened.search(text, _flat(image), **options)]
    return opened.search_each(lines, _flat(image), **options)


def _flat(values: list[list[str]]) -> list[str]:
    return [value for group in values for value in group]
