"""A plugin: the embedded scenes, as many to train on as the path says, and norms that do not see how a batch is cut."""

from lightning import Callback, LightningModule, Trainer
from torch import nn

from rsretrieval.data import Columns, register_dataset
from rsretrieval.data.datasets.synthetic.source import SyntheticSource


@register_dataset("few scenes")
class FewScenes(SyntheticSource):
    """See the module."""

    def __init__(self, path: str, columns: Columns) -> None:
        super().__init__("", columns)
        self.sizes = {"train": int(path), "valid": 33, "test": 15}


class FrozenNorms(Callback):
    """Batch norms (FGIS has some) use the statistics that they began with."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """See Lightning."""
        for module in pl_module.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
