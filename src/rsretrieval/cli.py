"""``rsretrieval fit | validate | test | predict``: LightningCLI over the module, the data module and the stages."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from rsretrieval.callbacks import ValueGuidedLearning
from rsretrieval.data.datamodule import RetrievalDataModule
from rsretrieval.module import RetrievalModule
from rsretrieval.report import EmbeddingWriter, RetrievalReport


class RetrievalCLI(LightningCLI):
    """One folder a run (``--trainer.default_root_dir``): checkpoints, logs, results.

    Adds the stages (``--schedule.stages``), a checkpoint of the best ``val/mR`` and of the last epoch
    (``--checkpoint.…``), and ``--ckpt_path best`` and ``last``, looked for in the run's folder.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """See LightningCLI."""
        parser.add_lightning_class_args(ValueGuidedLearning, "schedule")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(RetrievalReport, "report")
        parser.add_lightning_class_args(EmbeddingWriter, "embeddings")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/mR",
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "checkpoint.save_last": True,
                "trainer.max_epochs": 20,
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
        config.checkpoint.dirpath = config.checkpoint.dirpath or str(root / "checkpoints")
        if config.get("ckpt_path") in ("best", "last"):
            config.ckpt_path = str(find_checkpoint(Path(config.checkpoint.dirpath), config.ckpt_path))


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


def main(args: ArgsType = None) -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "fsspec", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    RetrievalCLI(
        RetrievalModule,
        RetrievalDataModule,
        args=args,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
    )
