"""Loggers of a run: W&B's by the run's folder, and those whose package is not there refused in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning import Trainer

from rsretrieval.training.wandb_run import WandbRunLogger

OURS = f"{WandbRunLogger.__module__}.{WandbRunLogger.__qualname__}"
CSV_NAME = "lightning_logs"
"""The default name of CSVLogger."""


class LoggerPackageError(ImportError):
    """A logger whose package is not installed."""


def settle_loggers(loggers: Any, root: Path) -> None:  # noqa: ANN401 - a parsed setting
    """Put loggers into the run's folder, and in the place of Lightning's W&B logger the one that goes on with a run.

    Args:
        loggers: what is parsed of ``trainer.logger``, changed in place.
        root: the run's folder.
    """
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if not hasattr(logger, "init_args"):
            continue
        if logger.class_path.startswith("lightning.pytorch.loggers.") and logger.class_path.endswith(".WandbLogger"):
            logger.class_path = OURS
            if logger.init_args.get("name") == CSV_NAME:
                logger.init_args.name = None  # left over from the default logger: the parser keeps what both know
        if logger.init_args.get("save_dir", "?") in (None, "", "."):
            logger.init_args.save_dir = str(root)


@contextmanager
def refused_without_package(loggers: Any) -> Iterator[None]:  # noqa: ANN401 - a parsed setting
    """Say which logger cannot be had.

    Args:
        loggers: what is parsed of ``trainer.logger``.

    Raises:
        LoggerPackageError: if a module of Lightning's loggers asks for a package that is not there.
    """
    try:
        yield
    except (ImportError, ValueError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ImportError):
            cause = cause.__cause__ or cause.__context__
        if cause is None or not _raised_by_loggers(cause):
            raise
        several = loggers if isinstance(loggers, list) else [loggers]
        names = [str(logger.class_path) for logger in several if hasattr(logger, "class_path")]
        reason = " ".join(str(cause).split())
        raise LoggerPackageError(
            f"trainer.logger {names}: {reason}. Install that package, or use --trainer.logger=CSVLogger"
        ) from error


def _raised_by_loggers(error: BaseException) -> bool:
    trace, names = error.__traceback__, []
    while trace is not None:
        names.append(str(trace.tb_frame.f_globals.get("__name__")))
        trace = trace.tb_next
    return any(".loggers" in name for name in names)


def begin_loggers(trainer: Trainer, *, goes_on: bool, trains: bool) -> None:
    """Settle which W&B run this is; see :meth:`rsretrieval.training.wandb_run.WandbRunLogger.begin`."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbRunLogger):
            logger.begin(Path(trainer.default_root_dir), goes_on=goes_on, trains=trains)


def end_loggers(trainer: Trainer) -> None:
    """End the W&B run, so that another one may begin in this process."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbRunLogger):
            logger.end()
