"""``rsretrieval fit | validate | test``: LightningCLI over the module, the data module and the stages."""

from __future__ import annotations

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from rsretrieval.callbacks import ValueGuidedLearning
from rsretrieval.data.datamodule import RetrievalDataModule
from rsretrieval.module import RetrievalModule


class RetrievalCLI(LightningCLI):
    """Adds the stages (``--schedule.stages``) and a checkpoint on ``val/mR`` (``--checkpoint.…``)."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """See LightningCLI."""
        parser.add_lightning_class_args(ValueGuidedLearning, "schedule")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/mR",
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "checkpoint.save_last": True,
            }
        )

    def _parse_ckpt_path(self) -> None:
        """The command line wins over the hyper-parameters in a checkpoint."""


def main(args: ArgsType = None) -> None:
    """Run the command line."""
    RetrievalCLI(RetrievalModule, RetrievalDataModule, args=args, save_config_kwargs={"overwrite": True})
