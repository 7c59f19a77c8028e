"""``rsretrieval benchmark``: models by name on data sets by name, as one table."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from rsretrieval.cli.plugins import add_plugins, load_plugins

DESCRIPTION = """Evaluate every model on every data set and split that is there, as `rsretrieval test` does.

One table beside the published figures, as Markdown, CSV and JSON. What cannot be evaluated is named in it with the
reason, the others go on, and the exit status is 1. Called again with the same folder, it computes what is new."""


def main(arguments: Sequence[str]) -> None:
    """Run ``benchmark``, the first of the arguments.

    Raises:
        SystemExit: with status 1 and a message, if something could not be evaluated.
    """
    options: Any = _parser().parse_args(list(arguments[1:]))
    load_plugins(options.plugins)
    from rsretrieval.cli.trainer import HARMLESS
    from rsretrieval.training.benchmark import Evaluation, benchmark, describe
    from rsretrieval.training.benchmark_table import MARKDOWN

    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)
    how = Evaluation(
        tuple(options.splits), options.queries, options.eval_batch_size, options.num_workers, options.max_broken,
        options.accelerator,
    )  # fmt: skip
    folder = Path(options.to).expanduser()
    cells = benchmark(options.models, options.data, folder, how)
    sys.stdout.write((folder / MARKDOWN).read_text(encoding="utf-8"))
    if failed := describe(cells):
        sys.exit(f"rsretrieval: {failed}")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="rsretrieval benchmark", description=DESCRIPTION)
    parser.add_argument("models", type=str, nargs="+", help="names, folders or checkpoints, as of --model.pretrained")
    parser.add_argument(
        "--data", type=str, nargs="+", required=True,
        help="data sets: a name such as rsicd, OWNER/NAME of the hub, or SOURCE:PATH (rsicd:PATH, folder:PATH); "
        "read with their default columns and configuration, others after `rsretrieval data prepare` (parquet:FOLDER)",
    )  # fmt: skip
    parser.add_argument("--splits", type=str, nargs="+", default=["test"], help="valid, test or both")
    parser.add_argument("--to", type=str, default="benchmark", help="folder of the table")
    parser.add_argument("--queries", choices=("every", "distinct"), default="every", help="see --data.queries of test")
    parser.add_argument("--eval_batch_size", type=int, default=64, help="images that are embedded at once")
    parser.add_argument("--num_workers", type=int, default=2, help="processes that load images")
    parser.add_argument("--max_broken", type=float, default=0.01, help="fraction of a split's rows that may be broken")
    parser.add_argument("--accelerator", type=str, default="auto", help="of Lightning's Trainer, such as cpu or gpu")
    add_plugins(parser)
    return parser
