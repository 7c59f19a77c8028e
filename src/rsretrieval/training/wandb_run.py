"""Lightning's W&B logger for a run that has a folder: the same W&B run whenever it goes on, no step twice.

It imports ``wandb`` to see before the first step whether there is a key, and to put pictures into tables, for both of
which Lightning's logger has no way.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from rsretrieval.files import write_text
from rsretrieval.redaction import redacted, redacted_values
from rsretrieval.settings import flat

RUN_FILE = "wandb_run.json"
"""In the run's folder: the W&B run's id, the last step that was logged, and what of it."""
WRITES_EVERY = 1.0
"""Seconds after which W&B writes to its file what came: all that a killed process loses of it."""
OF_A_ROW = {"epoch"}
"""What rows have beside their figures."""


class WandbRunError(RuntimeError):
    """A W&B run that cannot begin."""


class WandbRunLogger(WandbLogger):
    """See :class:`lightning.pytorch.loggers.WandbLogger`, whose place it takes on the command line.

    The configuration is flat and typed, without secrets, so that runs can be filtered by
    ``model.optimizer.learning_rate``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Lightning's own
        super().__init__(*args, **kwargs)
        if self._wandb_init.get("settings") is None:
            self._wandb_init["settings"] = {"x_transaction_log_flush_interval": WRITES_EVERY}
        self._file: Path | None = None
        self._last = -1
        self._names: frozenset[str] = frozenset()

    @rank_zero_only
    def begin(self, folder: Path, *, goes_on: bool, trains: bool) -> None:
        """Settle which W&B run it is; before anything is logged.

        By precedence: the ``id`` that was given, ``WANDB_RUN_ID`` (a sweep's agent sets it), and where a run goes on
        that of its folder; else a new one.

        Args:
            folder: of the run.
            goes_on: whether it goes on with a checkpoint of this folder.
            trains: whether it is a training, of which no step is to be logged twice.

        Raises:
            WandbRunError: if there is no key.
        """
        self._check_key()
        file = folder / RUN_FILE
        known = json.loads(file.read_text(encoding="utf-8")) if goes_on and file.is_file() else {}
        run_id = self._id or os.environ.get("WANDB_RUN_ID") or known.get("id") or uuid4().hex[:8]
        self._id = self._wandb_init["id"] = run_id
        if not trains:
            return
        self._file = file
        if known.get("id") == run_id:
            self._last, self._names = known["step"], frozenset(known["names"])
        self._remember()

    def _check_key(self) -> None:
        import wandb

        mode = "offline" if self._offline else self._wandb_init.get("mode") or wandb.setup().settings.mode
        if mode in ("online", "shared") and not wandb.login(prompt=False, verify=False):
            raise WandbRunError(
                "W&B has no key here: run `wandb login`, or set WANDB_API_KEY; or set WANDB_MODE=offline, and send the "
                "run later by `wandb sync`; or train without it by --trainer.logger=CSVLogger"
            )

    def _remember(self) -> None:
        if self._file is not None:
            state = {"id": self._id, "step": self._last, "names": sorted(self._names)}
            write_text(self._file, json.dumps(state))

    @property
    def experiment(self) -> Any:  # noqa: ANN401 - Lightning's own union
        """The W&B run, begun where it is first asked for; its account of the command line has no secrets.

        Raises:
            WandbRunError: if it cannot begin.
        """
        if self._experiment is not None:
            return self._experiment
        from wandb.errors import Error

        try:
            with _arguments_redacted():
                return super().experiment
        except Error as error:
            raise WandbRunError(
                f"the W&B run cannot begin: {error}. Check key, project and connection, or set WANDB_MODE=offline, and "
                "send the run later by `wandb sync`"
            ) from error

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:  # noqa: ANN401 - Lightning's own union
        """Flat: what is under ``config`` by its own names, ``run`` under ``run.…``, a module's under ``model.…``."""
        settings = dict(vars(params)) if not isinstance(params, Mapping) else dict(params)
        config, run = settings.pop("config", {}), settings.pop("run", {})
        values = {**flat(settings, "model."), **flat(run, "run."), **flat(config)}
        super().log_hyperparams(redacted_values(values))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """A row, or what of it was not logged before the run died."""
        if step is not None and self._file is not None:
            metrics = self._not_yet_logged(metrics, step)
            if not metrics:
                return
        super().log_metrics(metrics, step)

    def _not_yet_logged(self, metrics: Mapping[str, Any], step: int) -> Mapping[str, Any]:
        if step < self._last:
            return {}
        if step > self._last:
            self._last, self._names = step, frozenset()
        new = {name: value for name, value in metrics.items() if name in OF_A_ROW or name not in self._names}
        if new.keys() <= OF_A_ROW:
            return {}
        self._names |= new.keys()
        self._remember()  # before it is sent: a step that is lost leaves a gap, one that is sent twice a false curve
        return new

    @rank_zero_only
    def log_table(
        self,
        key: str,
        columns: list[str] | None = None,
        data: list[list[Any]] | None = None,
        dataframe: Any = None,  # noqa: ANN401
        step: int | None = None,
    ) -> None:
        """See Lightning; cells may be PIL images."""
        import wandb

        if data is not None:
            data = [[wandb.Image(cell) if isinstance(cell, Image.Image) else cell for cell in row] for row in data]
        super().log_table(key, columns, data, dataframe, step)

    @rank_zero_only
    def end(self, status: int = 0) -> None:
        """Send the rest, and end the run in W&B; it may go on later.

        Args:
            status: as of a process; 0 for success.
        """
        if self._experiment is not None:
            self._experiment.finish(exit_code=status)
            self._experiment = None


@contextmanager
def _arguments_redacted() -> Iterator[None]:
    """W&B keeps the command line."""
    arguments = sys.argv[:]
    sys.argv[:] = map(redacted, arguments)
    try:
        yield
    finally:
        sys.argv[:] = arguments
