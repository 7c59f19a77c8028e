"""Learning curves of runs as a picture: training loss by step, validation mR by epoch.

python benchmarks/curves.py RUN [RUN …] --to FILE.png
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path


def series(run: Path, column: str, by: str) -> tuple[list[float], list[float]]:
    """A column of a run's logs; a run that was resumed has several, of which the last counts."""
    found: dict[float, float] = {}
    for file in sorted(run.rglob("metrics.csv"), key=lambda file: file.stat().st_mtime):
        with file.open() as lines:
            found.update({float(r[by]): float(r[column]) for r in csv.DictReader(lines) if r.get(column)})
    return [*sorted(found)], [found[x] for x in sorted(found)]


def main() -> None:
    """Draw and save."""
    from matplotlib import pyplot as plt  # of `dev`; who reads a run's log alone does without

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--to", required=True, type=Path)
    args = parser.parse_args()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for run in args.runs:
        left.plot(*series(run, "train/loss", "step"), label=run.name)
        right.plot(*series(run, "val/mR", "epoch"), marker=".", label=run.name)
    left.set(xlabel="step", ylabel="training loss")
    right.set(xlabel="epoch", ylabel="validation mR, %")
    right.legend()
    figure.savefig(args.to, dpi=100)


if __name__ == "__main__":
    main()
