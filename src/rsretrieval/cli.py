"""``rsretrieval fit | validate | test | predict``: LightningCLI over the module, the data module and the stages.

``rsretrieval data list | prepare``: the catalogue and local copies. ``rsretrieval export``: a checkpoint as a folder.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import jsonargparse
from filelock import FileLock, Timeout
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback

from rsretrieval.callbacks import ValueGuidedLearning
from rsretrieval.data.datamodule import RetrievalDataModule
from rsretrieval.data.prepare import prepare, show
from rsretrieval.module import RetrievalModule
from rsretrieval.report import EmbeddingWriter, RetrievalReport
from rsretrieval.retriever import export

LEFT_BEHIND = 20
"""Seconds in which the loaders of a killed run notice that it is gone."""


class RunConfig(SaveConfigCallback):
    """Writes the whole configuration to ``config.yaml`` in the run's folder, and to the logger."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - LightningCLI's own arguments
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """On the first process alone; Lightning sees to it."""
        if stage != "fit":
            return
        path = Path(trainer.default_root_dir) / "config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.parser.dump(self.config, skip_none=False))
        for logger in trainer.loggers:
            logger.log_hyperparams(
                {"config": json.loads(self.parser.dump(self.config, format="json", skip_none=False))}
            )


class RetrievalCLI(LightningCLI):
    """One folder a run (``--trainer.default_root_dir``): configuration, checkpoints, logs, results.

    Adds the stages (``--schedule.stages``); checkpoints of the best ``val/mR`` (``--checkpoint.…``), of the last epoch
    (``--last.…``), and in mid-epoch and when a run ends by an error (``--resume.…``); and ``--ckpt_path
    best`` and ``last``, looked for in the run's folder.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """See LightningCLI."""
        parser.add_lightning_class_args(ValueGuidedLearning, "schedule")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(ModelCheckpoint, "last")
        parser.add_lightning_class_args(ModelCheckpoint, "resume")
        parser.add_lightning_class_args(RetrievalReport, "report")
        parser.add_lightning_class_args(EmbeddingWriter, "embeddings")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/mR",
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "last.filename": "last",
                "last.enable_version_counter": False,
                "resume.filename": "last-step",
                "resume.every_n_train_steps": 200,
                "resume.enable_version_counter": False,
                "resume.save_on_exception": True,
                "trainer.max_epochs": 20,
                "trainer.logger": {"class_path": "CSVLogger", "init_args": {"save_dir": ""}},
                "trainer.default_root_dir": "runs/default",
                "trainer.num_sanity_val_steps": 0,
            }
        )
        parser.link_arguments("data.image_size", "model.image_size")

    def _parse_ckpt_path(self) -> None:
        """The command line wins over the hyper-parameters in a checkpoint."""

    def before_instantiate_classes(self) -> None:
        """Settle what depends on the run's folder."""
        config: Any = self.config[self.subcommand] if self.subcommand else self.config
        root = Path(config.trainer.default_root_dir)
        if "verbose" in config:
            config.verbose = False  # the report shows the figures; Lightning would show them again
        for group in (config.checkpoint, config.last, config.resume):
            group.dirpath = group.dirpath or str(root / "checkpoints")
        given = config.trainer.logger
        for logger in given if isinstance(given, list) else [given]:
            if hasattr(logger, "init_args") and logger.init_args.get("save_dir", "?") in (None, "", "."):
                logger.init_args.save_dir = str(root)
        if config.get("ckpt_path") in ("best", "last"):
            config.ckpt_path = str(find_checkpoint(Path(config.checkpoint.dirpath), config.ckpt_path))

    def before_fit(self) -> None:
        """Keep other processes out of the run's folder; the system lets them in when this one ends, however it does."""
        root = Path(self.trainer.default_root_dir)
        self._lock = FileLock(root / "fit.lock", is_singleton=True)  # this process may come again after an error
        if self.trainer.is_global_zero:
            root.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=LEFT_BEHIND)
            except Timeout as error:
                raise RuntimeError(
                    f"another process trains in '{root}': wait until it ends, or give this run a folder of its own as "
                    "--trainer.default_root_dir"
                ) from error

    def after_fit(self) -> None:
        """See :meth:`before_fit`."""
        self._lock.release(force=True)


def find_checkpoint(folder: Path, which: str) -> Path:
    """The newest checkpoint of a run whose name begins with ``best`` or ``last``.

    Raises:
        FileNotFoundError: saying what there is.
    """
    files = sorted(folder.glob(f"{which}*.ckpt"), key=lambda file: file.stat().st_mtime)
    if not files:
        there = sorted(file.name for file in folder.glob("*.ckpt"))
        raise FileNotFoundError(
            f"no checkpoint '{which}' in '{folder}', which has {there}: give the run's folder as "
            "--trainer.default_root_dir, or a file as --ckpt_path"
        )
    return files[-1]


def _export(args: list[str]) -> None:
    parser = jsonargparse.ArgumentParser(prog="rsretrieval export", description=export.__doc__)
    parser.add_argument("checkpoint", type=str, help="of a training run")
    parser.add_function_arguments(export, as_group=False, as_positional=False, skip={"checkpoint"})
    export(**vars(parser.parse_args(args)))


def _data(args: list[str]) -> None:
    parser = jsonargparse.ArgumentParser(prog="rsretrieval data", description="Data sets: what is known, local copies.")
    commands = parser.add_subcommands(dest="command")
    commands.add_subcommand("list", jsonargparse.ArgumentParser(), help="the data sets that are known by name")
    arguments = jsonargparse.ArgumentParser(description=prepare.__doc__)
    arguments.add_argument("name", type=str, help="a data set of the list, a hub id OWNER/NAME, or a source")
    arguments.add_function_arguments(prepare, as_group=False, as_positional=False, skip={"name"})
    commands.add_subcommand("prepare", arguments, help="write a data set as local parquet files")
    given: Any = parser.instantiate(parser.parse_args(args))
    if given.command == "list":
        show()
    else:
        prepare(**vars(given.prepare))


def main(args: ArgsType = None) -> None:
    """Run the command line."""
    # True of every run here, and of no use to who reads the log.
    for harmless in (
        "Found .* module\\(s\\) in eval mode",
        ".*does not have many workers",
        ".*has `__len__` defined",
        ".*exists and is not empty",
        "You're using the WeightAveraging callback, but loading",
    ):
        warnings.filterwarnings("ignore", harmless)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "fsspec", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    given = sys.argv[1:] if args is None else args
    others = {"data": _data, "export": _export}
    if isinstance(given, list) and given and given[0] in others:
        others[given[0]](given[1:])
        return
    RetrievalCLI(
        RetrievalModule,
        RetrievalDataModule,
        args=args,
        seed_everything_default=0,
        save_config_callback=RunConfig,
    )
