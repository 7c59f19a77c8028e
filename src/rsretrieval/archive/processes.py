"""Several processes of one call, by Lightning's Fabric; alone nothing of it is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any


class Processes:
    """The processes that share the work; the other ones are launched here.

    Args:
        devices: how many, one a device; ``auto`` for all there are.
        accelerator: such as ``cpu`` or ``cuda``.
        precision: of the model's arithmetic, such as ``bf16-mixed``.
    """

    def __init__(self, devices: int | str = 1, accelerator: str = "auto", precision: str = "32-true") -> None:
        from lightning.fabric import Fabric
        from lightning.fabric.strategies.ddp import DDPStrategy

        alone = str(devices) == "1" and not _launched()
        # Ranks end at different times, and wait for the slowest.
        strategy = "auto" if alone else DDPStrategy(timeout=timedelta(days=7))
        settings: dict[str, Any] = {"accelerator": accelerator, "devices": devices, "precision": precision}
        self._fabric = Fabric(strategy=strategy, **settings)
        self._fabric.launch()

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        return int(self._fabric.global_rank)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self._fabric.world_size)

    @property
    def device(self) -> Any:  # noqa: ANN401 - torch's
        """That of this process."""
        return self._fabric.device

    def autocast(self) -> AbstractContextManager[None]:
        """The model's arithmetic in the precision that was asked for."""
        return self._fabric.autocast()

    def wait(self) -> None:
        """Until all are here."""
        self._fabric.barrier()

    @contextmanager
    def first_alone(self, lock: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
        """Hold what only one call may hold, in the first process for all."""
        with lock() if self.rank == 0 else nullcontext():
            yield


def _launched() -> bool:
    """Whether another program started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1
