"""``rsretrieval COMMAND``: each command is a file of its own, imported where it is called."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from rsretrieval import __version__
from rsretrieval.cli.help import cached_help
from rsretrieval.redaction import error_line, redacted

TRAINER = "rsretrieval.cli.trainer"
COMMANDS = {
    "fit": (TRAINER, "train: one configuration, one folder a run"),
    "validate": (TRAINER, "recall of a checkpoint on the validation split"),
    "test": (TRAINER, "recall of a checkpoint on the test split"),
    "predict": (TRAINER, "embeddings of a split's images and captions, as parquet"),
    "export": ("rsretrieval.cli.export", "a checkpoint as a folder to give away and to load by Retriever"),
    "embed": ("rsretrieval.cli.embed", "pictures and rasters as an archive of embeddings, to be searched"),
    "search": ("rsretrieval.cli.search", "what an archive has for a sentence, a picture, or both"),
    "serve": ("rsretrieval.cli.serve", "an archive in a browser: a page to search it, and the JSON API under it"),
    "classify": ("rsretrieval.cli.classify", "zero-shot scene classification, by the names of the classes"),
    "benchmark": ("rsretrieval.cli.benchmark", "recall of several models on several data sets, as one table"),
    "bank": ("rsretrieval.cli.bank", "a model with a bank of queries, to correct its scores for hubs"),
    "index": ("rsretrieval.cli.index", "an archive of embeddings made searchable, or what changed taken in"),
    "localize": ("rsretrieval.cli.localize", "where in a large scene something is that a sentence says: a heat map"),
    "localize-eval": ("rsretrieval.cli.localize_eval", "figures of such maps over annotated scenes (AIR-SLT)"),
    "sweep": ("rsretrieval.cli.sweep", "trials of a sweep's file, as of `wandb sweep`, without a server"),
    "report": ("rsretrieval.cli.report", "runs side by side: figures, differences, curves, scenes, worst queries"),
    "models": ("rsretrieval.cli.models", "pre-trained models that are known by name, and how to check one"),
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
    parser.add_argument("-V", "--version", action="version", version=f"rsretrieval {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, summary) in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    command = parser.parse_args(arguments[:1]).command
    place, _ = COMMANDS[command]
    if place == TRAINER and arguments[1:] in (["-h"], ["--help"]):
        sys.stdout.write(cached_help(command, lambda args: importlib.import_module(TRAINER).main(args)))
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for verbose in ("httpx", "httpx2", "fsspec", "matplotlib", "faiss", "rasterio", "onnx_ir", "onnxscript"):
        logging.getLogger(verbose).setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_worth_reading)
        handler.addFilter(_without_secrets)
    importlib.import_module(place).main(arguments)


def _is_worth_reading(record: logging.LogRecord) -> bool:
    """Whether a line of the log is more than open_clip's account of what it does, which goes to the root logger.

    That it loads no weights is no news: where a model is to have some, this package loads them, or refuses.
    """
    if record.getMessage().startswith("No pretrained weights loaded"):
        return False
    return record.levelno > logging.INFO or f"{os.sep}open_clip{os.sep}" not in record.pathname


def _without_secrets(record: logging.LogRecord) -> bool:
    """Hide secrets in a line of the log."""
    record.msg, record.args = redacted(record.getMessage()), None
    return True


def entry() -> NoReturn:
    """The program: like :func:`main`, but an error that is the user's to fix is a message, not a traceback."""
    try:
        main()
    except Exception as error:
        if os.environ.get("RSRETRIEVAL_TRACEBACK") or not _is_for_user(error):
            raise
        sys.exit(f"{error_line(error)}\n(RSRETRIEVAL_TRACEBACK=1 shows where it was raised)")
    sys.exit(0)


def _is_for_user(error: BaseException) -> bool:
    """Whether this package raised an error on purpose: one of its own classes, or an ordinary one in its own code."""
    if type(error).__module__.partition(".")[0] == "rsretrieval":
        return True
    if isinstance(error, OSError) and error.filename is not None:
        return True  # a file or folder that is not there, is another thing, or cannot be written
    if not isinstance(error, ValueError | OSError | ImportError | RuntimeError):
        return False
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "rsretrieval"
