"""``rsretrieval COMMAND``: each command is a file of its own, imported where it is called."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from rsretrieval import __version__
from rsretrieval.cli.help import cached_help

TRAINER = "rsretrieval.cli.trainer"
COMMANDS = {
    "fit": (TRAINER, "train: one configuration, one folder a run"),
    "validate": (TRAINER, "recall of a checkpoint on the validation split"),
    "test": (TRAINER, "recall of a checkpoint on the test split"),
    "predict": (TRAINER, "embeddings of a split's images and captions, as parquet"),
    "export": ("rsretrieval.cli.export", "a checkpoint as a folder to give away and to load by Retriever"),
    "data": ("rsretrieval.cli.data", "data sets that are known by name; local copies of any"),
}
"""Command to the module whose ``main`` runs it, and what it does."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: command and options; None for those of the process.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    parser = argparse.ArgumentParser(
        "rsretrieval",
        description="Remote-sensing image-text retrieval.",
        epilog="rsretrieval COMMAND --help says more.",
    )
    parser.add_argument("--version", action="version", version=f"rsretrieval {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, summary) in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    command = parser.parse_args(arguments[:1]).command
    place, _ = COMMANDS[command]
    if place == TRAINER and arguments[1:] in (["-h"], ["--help"]):
        sys.stdout.write(cached_help(command, lambda args: importlib.import_module(TRAINER).main(args)))
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for verbose in ("httpx", "fsspec", "matplotlib"):
        logging.getLogger(verbose).setLevel(logging.WARNING)
    importlib.import_module(place).main(arguments)
