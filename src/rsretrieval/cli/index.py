"""``rsretrieval index``: the index of an archive, and rows that leave it or come from another."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from rsretrieval.cli.plugins import add_plugins, load_plugins

if TYPE_CHECKING:
    from rsretrieval.archive.index import IndexReport

log = logging.getLogger(__name__)
DESCRIPTION = """Make an archive of `rsretrieval embed` searchable, or take into its index what changed since.

Rows can be removed, and another archive of the same model merged in, before that. The earlier index stays until the new
one is whole. Recall@10 is measured by rows of the archive as queries, against comparing with every row."""


def main(arguments: Sequence[str]) -> None:
    """Run ``index``, the first of the arguments."""
    options: Any = vars(_parse(arguments[1:]))
    load_plugins(options.pop("plugins"))
    sys.stdout.write(run(**options) + "\n")


def _parse(arguments: Sequence[str]) -> Any:  # noqa: ANN401
    parser = ArgumentParser(prog="rsretrieval index", description=DESCRIPTION)
    parser.add_argument("archive", type=str, help="the folder that `rsretrieval embed` wrote")
    parser.add_argument(
        "--kind", type=str, default="flat",
        help="flat compares with every row, in float32; hnsw walks a graph, in float16, for a million rows and more; "
        "lancedb is a table that filters by itself, on disk or, by --options.uri, on object storage",
    )  # fmt: skip
    parser.add_argument(
        "--remove", type=str, nargs="+", default=[], metavar="ID",
        help="ids of rows to take out of the archive first; or a text file (FILE.txt), one a line",
    )  # fmt: skip
    parser.add_argument("--merge", type=str, default=None, metavar="OTHER", help="an archive to take the rows of first")
    parser.add_argument("--rebuild", type=bool, default=False, help="build anew, whatever there is")
    parser.add_argument(
        "--options", type=dict[str, int | str], default={},
        help="of the kind: of hnsw m=32, ef_construction=200, ef_search=128 (--options.ef_search 256); of lancedb uri, "
        "exact_rows=50000, partitions, probes=40. What is not given is as it was",
    )  # fmt: skip
    parser.add_argument("--sample", type=int, default=1000, help="rows by which recall is measured")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of them")
    add_plugins(parser)
    return parser.instantiate(parser.parse_args(list(arguments)))


def run(
    archive: str,
    kind: str,
    remove: Sequence[str],
    merge: str | None,
    rebuild: bool,
    options: dict[str, int | str],
    sample: int,
    seed: int,
) -> str:
    """Change and index an archive; what was done, in words.

    Raises:
        ArchiveError: for a damaged archive, unknown ids, an archive that cannot be merged, or a wrong option.
    """
    from rsretrieval.archive import edit
    from rsretrieval.archive.index import build_index

    folder, done = Path(archive).expanduser(), []
    if remove:
        done.append(f"removed from the archive: {edit.remove_rows(folder, _ids(remove)):,} rows")
    if merge is not None:
        done.append(f"taken from '{merge}': {edit.merge(folder, Path(merge).expanduser()):,} rows")
    report = build_index(folder, kind, sample=sample, seed=seed, rebuild=rebuild, **options)
    return "\n".join([*done, describe(report)])


def _ids(values: Sequence[str]) -> list[str]:
    """Ids as they are given, or the lines of a text file."""
    from rsretrieval.embeddings import ArchiveError

    if len(values) > 1 or not values[0].endswith(".txt"):
        return list(values)
    file = Path(values[0]).expanduser()
    try:
        return [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ArchiveError(f"--remove: '{file}' cannot be read ({error}): give a text file, one id a line") from error


def describe(report: IndexReport) -> str:
    """What came of an index, for a reader."""
    anew = f" (built anew: {report.anew})" if report.anew else ""
    return (
        f"{report.kind}: {report.rows:,} rows, {report.added:,} added, {report.removed:,} removed{anew}; "
        f"recall@10 {report.recall_at_10:.4f} by {min(report.sample, report.rows):,} rows; "
        f"{report.seconds:.1f} s, {report.bytes / 1e6:,.1f} MB"
    )
