"""Time the package against what one would write instead, each as a ratio measured in one run; see docs/benchmarks.md.

    python benchmarks/speed [NAME ...] [--to docs/benchmarks.md]      # a module of this folder each; all by default

Every module runs in a process of its own, one after the other; nothing else should be at work on the machine. The
table between the two marks of the page is written anew; the status is 1 where a bound is not kept.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import subprocess
import sys
from pathlib import Path

import torch
from ratios import Row

HERE = Path(__file__).parent
MODULES = ("losses", "recall", "step", "encode", "cached", "start", "pipeline", "stream")
MARKS = ("<!-- made by benchmarks/speed -->", "<!-- end -->")


def measured(name: str, folder: Path) -> list[Row]:
    """Rows of a module, measured in a process of its own."""
    path = folder / f"{name}.json"
    subprocess.run([sys.executable, HERE, name, "--rows", path], check=True)
    return [Row(**row) for row in json.loads(path.read_text())]


def machine() -> str:
    """What the figures hold for."""
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{torch.get_num_threads()} cores ({capability}), Python {platform.python_version()}, torch {torch.__version__}"
    )


def amount(value: float, unit: str) -> str:
    """For the table.

    >>> amount(0.0123, "s"), amount(2_500_000, "bytes")
    ('12.3 ms', '2.5 MB')
    """
    if unit == "bytes":
        return f"{value / 1e6:.1f} MB" if value >= 1e5 else f"{value:.0f} bytes"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    head = ["| what | against | ours | theirs | ratio | must be | |", "|---|---|---|---|---|---|---|"]
    lines = [
        f"| {row.what}{f' ({row.note})' if row.note else ''} | {row.against} | {amount(row.ours, row.unit)} | "
        f"{amount(row.reference, row.unit)} | {row.ratio:.2f} | {row.must} | {'' if row.met else 'missed'} |"
        for row in rows
    ]
    return "\n".join([*head, *lines])


def write(page: Path, rows: list[Row]) -> None:
    """Put the table between the page's marks."""
    before, rest = page.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    page.write_text(f"{before}{MARKS[0]}\n\nMeasured on {machine()}.\n\n{table(rows)}\n\n{MARKS[1]}{after}")


def main() -> int:
    """Run the modules asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODULES))
    parser.add_argument("--to", type=Path, help="the page to write the table into")
    parser.add_argument("--rows", type=Path, help="measure one module here, and write its rows as JSON")
    options = parser.parse_args()
    if unknown := set(options.names) - set(MODULES):
        parser.error(f"{sorted(unknown)}: the modules are {', '.join(MODULES)}")
    if options.rows:
        rows = list(importlib.import_module(options.names[0]).rows())
        options.rows.write_text(json.dumps([row.as_dict() for row in rows]))
        return 0
    folder = Path("build/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in options.names or MODULES:
        fresh = measured(name, folder)
        print(table(fresh), flush=True)  # noqa: T201 - the output of a command
        rows += fresh
    if options.to:
        write(options.to, rows)
    return int(not all(row.met for row in rows))


if __name__ == "__main__":
    sys.exit(main())
