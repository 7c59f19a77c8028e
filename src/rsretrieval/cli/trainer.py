"""``rsretrieval fit | validate | test | predict``: LightningCLI over the module, the data module and the stages."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from rsretrieval.cli.agent import arguments_of_agent, of_trial
from rsretrieval.cli.configs import given, resolve
from rsretrieval.cli.loggers import begin_loggers, end_loggers, refused_without_package, settle_loggers
from rsretrieval.cli.monitors import check_monitors
from rsretrieval.cli.plugins import add_plugins, load_plugins, named_plugins
from rsretrieval.cli.pretrained import (
    PREPROCESSING,
    builds_model,
    check_checkpoint,
    model_of_checkpoint,
    named_as_checkpoint,
    names_class,
    settings_of_model,
    warn_of_untrained,
)
from rsretrieval.cli.run_folder import (
    NAMES,
    RunConfig,
    bring_back,
    check_is_newest,
    find_checkpoint,
    lock_folder,
    set_aside,
)
from rsretrieval.cli.signals import exit_status_of_signals
from rsretrieval.data.datamodule import RetrievalDataModule
from rsretrieval.models.weights import tensors_follow
from rsretrieval.training.callbacks import (
    EmbeddingWriter,
    EndsTogether,
    RetrievalReport,
    Tracking,
    TrainingFigures,
    ValueGuidedLearning,
)
from rsretrieval.training.checkpoint_io import write_checkpoints_whole
from rsretrieval.training.module import RetrievalModule
from rsretrieval.training.schedule import PAPER_STAGES

DEFAULTS = {
    "checkpoint.monitor": "val/mR",
    "checkpoint.mode": "max",
    "checkpoint.filename": "best",
    "last.filename": "last",
    "last.enable_version_counter": False,
    "last.save_on_train_epoch_end": True,  # also where validation is rarer
    "resume.filename": "last-step",
    "resume.every_n_train_steps": 200,
    "resume.enable_version_counter": False,
    "resume.save_on_exception": True,
    "trainer.max_epochs": 20,
    "trainer.logger": {"class_path": "CSVLogger", "init_args": {"save_dir": ""}},
    "trainer.default_root_dir": "runs/default",
    "trainer.num_sanity_val_steps": 0,
    "schedule.stages": [asdict(stage) for stage in PAPER_STAGES],
}
HARMLESS = (
    "Found .* module\\(s\\) in eval mode",
    ".*does not have many workers",
    ".*has `__len__` defined",
    ".*exists and is not empty",
    "You're using the WeightAveraging callback, but loading",
    "LightningCLI's args parameter is intended to run from within Python",
)
"""Warnings that are true of every run here, and of no use to who reads the log."""


class RetrievalCLI(LightningCLI):
    """One folder a run (``--trainer.default_root_dir``): configuration, checkpoints, logs, results.

    Adds the stages (``--schedule.stages``); checkpoints of the best ``val/mR`` (``--checkpoint.…``), of the last epoch
    (``--last.…``), and in mid-epoch and when a run ends by an error (``--resume.…``); ``--plugins`` with what is
    registered elsewhere; and ``--ckpt_path best``, ``last`` and ``auto``, looked for in the run's folder.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """See LightningCLI."""
        add_plugins(parser)
        parser.add_lightning_class_args(ValueGuidedLearning, "schedule")
        for name in ("checkpoint", "last", "resume"):
            parser.add_lightning_class_args(ModelCheckpoint, name)
        parser.add_lightning_class_args(RetrievalReport, "report")
        parser.add_lightning_class_args(TrainingFigures, "figures")
        parser.add_lightning_class_args(Tracking, "tracking")
        parser.add_lightning_class_args(EmbeddingWriter, "embeddings")
        parser.set_defaults(DEFAULTS)
        if not (self.subclass_mode_model or self.subclass_mode_data):
            for name in PREPROCESSING:
                parser.link_arguments(f"data.{name}", f"model.encoder.preprocessing.{name}")

    def _parse_ckpt_path(self) -> None:
        """The command line wins over the hyper-parameters in a checkpoint."""

    def before_instantiate_classes(self) -> None:
        """Settle what depends on the run's folder."""
        config: Any = self.config[self.subcommand] if self.subcommand else self.config
        load_plugins(config.plugins)
        root = Path(config.trainer.default_root_dir)
        if "verbose" in config:
            config.verbose = False  # the report shows the figures; Lightning would show them again
        if "return_predictions" in config:
            config.return_predictions = False  # nobody takes them here, and Lightning would keep them all
        for group in (config.checkpoint, config.last, config.resume):
            group.dirpath = group.dirpath or str(root / "checkpoints")
        settle_loggers(config.trainer.logger, root)
        self._is_auto = config.get("ckpt_path") == "auto"
        if config.get("ckpt_path") in NAMES:
            which = "last" if self._is_auto and self.subcommand != "fit" else config.ckpt_path
            file = find_checkpoint(Path(config.checkpoint.dirpath), which)
            config.ckpt_path = None if file is None else str(file)
        elif config.get("ckpt_path") and not self.subclass_mode_model:  # whose checkpoints may hold anything
            check_checkpoint(config.ckpt_path)

    def instantiate_classes(self) -> None:
        """With a checkpoint to come, towers need no weights of their own: every tensor is in it."""
        config: Any = self.config[self.subcommand] if self.subcommand else self.config
        weights = tensors_follow() if config.get("ckpt_path") else nullcontext()
        with weights, refused_without_package(config.trainer.logger):
            super().instantiate_classes()

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Without checkpoints where the trainer is told to write none, and without a logger where it has to be bare."""
        if config.get("barebones"):
            config = {**config, "logger": False}
        callbacks = [*callbacks, EndsTogether()]
        if config.get("enable_checkpointing") is False or config.get("barebones"):
            callbacks = [callback for callback in callbacks if not isinstance(callback, ModelCheckpoint)]
        return super()._instantiate_trainer(config, callbacks)

    def before_fit(self) -> None:
        """Keep other processes out of the run's folder, and an earlier run's checkpoints apart from this one's."""
        config: Any = self.config[self.subcommand]
        check_monitors(self.trainer, self.model)
        if (count := self.trainer.accumulate_grad_batches) < 1:
            raise ValueError(f"--trainer.accumulate_grad_batches {count} is too small: give a whole number, 1 or more")
        write_checkpoints_whole(self.trainer)
        self._lock, self._aside = None, None
        if self.trainer.is_global_zero:
            self._lock = lock_folder(Path(self.trainer.default_root_dir))
            folder = Path(config.checkpoint.dirpath)
            if self._is_auto:
                check_is_newest(folder, config.ckpt_path)
            elif config.ckpt_path is None and self.trainer.checkpoint_callbacks and not config.trainer.fast_dev_run:
                self._aside = set_aside(folder)
        self._begin_loggers(trains=True)

    def fit(self, **settings: Any) -> None:  # noqa: ANN401 - the trainer's
        """Train; where no step was made, the checkpoints of an earlier run come back."""
        try:
            self.trainer.fit(**settings)
        except BaseException:
            if self._aside is not None and not self.trainer.global_step:
                bring_back(self._aside, Path(self.config[self.subcommand].checkpoint.dirpath))
            raise

    def _begin_loggers(self, *, trains: bool = False) -> None:
        """A run goes on where its checkpoint is of this folder."""
        config: Any = self.config[self.subcommand]
        folder = Path(config.checkpoint.dirpath).resolve()
        goes_on = config.ckpt_path is not None and Path(config.ckpt_path).resolve().parent == folder
        begin_loggers(self.trainer, goes_on=goes_on, trains=trains)
        if not trains and config.ckpt_path is None:
            warn_of_untrained(self.model, config.model)

    before_validate = before_test = _begin_loggers

    def before_predict(self) -> None:
        """Keep other processes from the files that this one writes."""
        self._lock = None
        if self.trainer.is_global_zero:
            self._lock = lock_folder(Path(self.trainer.default_root_dir), "predict")
        self._begin_loggers()

    def after_fit(self) -> None:
        """See :meth:`before_fit`."""
        end_loggers(self.trainer)
        if self._lock is not None:
            self._lock.release(force=True)

    after_predict = after_fit

    def after_validate(self) -> None:
        """See :meth:`_begin_loggers`."""
        end_loggers(self.trainer)

    after_test = after_validate


def main(arguments: Sequence[str], cli: type[RetrievalCLI] = RetrievalCLI) -> None:
    """Run ``fit``, ``validate``, ``test`` or ``predict``, the first of the arguments."""
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a user's own classes lie beside his configuration
    resolved, contents = resolve(arguments_of_agent(named_as_checkpoint(arguments)))
    root = given("trainer.default_root_dir", resolved, contents) or DEFAULTS["trainer.default_root_dir"]
    resolved += of_trial(resolved[0], str(root))
    own_model, own_data = (names_class(part, resolved, contents) for part in ("model", "data"))
    name = given("model.pretrained", resolved, contents)
    if not own_model and (name is not None or not builds_model(resolved, contents)):
        settings = model_of_checkpoint(resolved, contents, with_data=not own_data)
        if name is not None and not settings:
            load_plugins(named_plugins(given("plugins", resolved, contents)))  # one may register the model
            settings = settings_of_model(name, with_data=not own_data)
        resolved = [*resolved[:1], *settings, *resolved[1:]]
    with exit_status_of_signals():
        cli(
            LightningModule if own_model else RetrievalModule,
            LightningDataModule if own_data else RetrievalDataModule,
            subclass_mode_model=own_model,
            subclass_mode_data=own_data,
            args=resolved,
            seed_everything_default=0,
            save_config_callback=RunConfig,
        )
