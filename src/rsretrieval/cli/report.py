"""``rsretrieval report``: runs side by side, as Markdown and HTML."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

DESCRIPTION = """Compare runs: figures with their deviation over seeds, a paired bootstrap of each difference, curves,
recall by scene, worst queries, time and memory. RUN is the folder of a run (--trainer.default_root_dir), or one that
holds such folders, as a sweep's does. Logs of CSVLogger, W&B offline and TensorBoard are read alike."""


def main(arguments: Sequence[str]) -> None:
    """Run ``report``, the first of the arguments."""
    parser = argparse.ArgumentParser("rsretrieval report", description=DESCRIPTION)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders")
    parser.add_argument("--to", type=Path, default=Path("report"), help="folder of the report; default: report")
    parser.add_argument("--baseline", help="group or run that the others are compared with; default: the first")
    options = parser.parse_args(list(arguments[1:]))
    from rsretrieval.reports.report import write_report

    files = write_report([place.expanduser() for place in options.runs], options.to.expanduser(), options.baseline)
    sys.stdout.write("written: " + ", ".join(map(str, files)) + "\n")
