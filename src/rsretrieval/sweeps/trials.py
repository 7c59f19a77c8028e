"""The trials of a sweep as processes: started, followed while they train, stopped where they are not worth it."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsretrieval.sweeps.definition import Sweep
from rsretrieval.sweeps.study import ask, begun

if TYPE_CHECKING:
    from optuna import Study, Trial

log = logging.getLogger(__name__)
PROGRESS, LOG, SETTINGS = "progress.jsonl", "log.txt", "settings.json"
LOOK_EVERY, TIME_TO_END = 0.2, 60.0  # seconds

Command = Callable[[Mapping[str, Any], Path], list[str]]
"""The command of a trial with these settings in this folder, which writes :data:`PROGRESS` there."""


@dataclass
class Running:
    """A trial that trains.

    Attributes:
        trial: of Optuna.
        process: that trains it.
        folder: of its run.
        slot: number among those that train at once.
        begun: seconds of the clock when it started.
        figures: epoch and figure of each validation so far.
        stopped: seconds of the clock when it was told to end; None for not.
    """

    trial: Trial
    process: subprocess.Popen[bytes]
    folder: Path
    slot: int
    begun: float = field(default_factory=time.monotonic)
    figures: list[tuple[int, float]] = field(default_factory=list)
    stopped: float | None = None

    def stop(self) -> None:
        """Tell it to end; after a while, and for whatever it started, without asking."""
        if self.stopped is None:
            self.stopped = time.monotonic()
            self.process.terminate()
        elif time.monotonic() - self.stopped > TIME_TO_END:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


class Trials:
    """Runs the trials of a sweep.

    Args:
        sweep: what is varied.
        study: see :func:`rsretrieval.sweeps.study.open_study`.
        folder: of the sweep; each trial gets one in it.
        command: of a trial.
        devices: for each trial of those at once: the devices it may see (``CUDA_VISIBLE_DEVICES``), None for all.
        finished: called after each trial.
    """

    def __init__(
        self,
        sweep: Sweep,
        study: Study,
        folder: Path,
        command: Command,
        devices: Sequence[str | None],
        finished: Callable[[], None],
    ) -> None:
        self.sweep, self.study, self.folder, self.command = sweep, study, folder, command
        self.devices, self.finished = devices, finished
        self.running: list[Running] = []

    def run(self, trials: int) -> None:
        """Bring the sweep to so many trials; however this ends, no process is left.

        Trials that are under way then are run again when the sweep goes on.
        """
        wanted = trials - len(begun(self.study))
        try:
            while wanted > 0 or self.running:
                while wanted > 0 and len(self.running) < len(self.devices):
                    wanted = wanted - 1 if self._start() else 0
                for one in list(self.running):
                    self._follow(one)
                time.sleep(LOOK_EVERY)
        finally:
            while self.running:
                for one in self.running:
                    one.stop()
                time.sleep(LOOK_EVERY)
                self.running = [one for one in self.running if one.process.poll() is None]

    def _start(self) -> bool:
        """Start the next trial; False where there is none."""
        trial = ask(self.study, self.sweep)
        if trial is None:
            return False
        settings, name = self.sweep.settings(trial.params), f"trial-{trial.number:04d}"
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        slot = min(set(range(len(self.devices))) - {one.slot for one in self.running})
        with (folder / LOG).open("wb") as output:
            process = subprocess.Popen(
                self.command(settings, folder), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=self._environment(slot), start_new_session=True,
            )  # fmt: skip
        self.running.append(Running(trial, process, folder, slot))
        trial.set_user_attr("folder", name)
        log.info("%s: %s", name, ", ".join(f"{key}={value}" for key, value in settings.items()))
        return True

    def _environment(self, slot: int) -> dict[str, str]:
        """Cores shared out over the trials at once, and the devices of this one."""
        threads = max(1, (os.cpu_count() or 1) // len(self.devices))
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        device = self.devices[slot]
        return environment if device is None else {**environment, "CUDA_VISIBLE_DEVICES": device}

    def _follow(self, one: Running) -> None:
        ended = one.process.poll() is not None
        rows = read_progress(one.folder / PROGRESS)
        for number, (_, value) in enumerate(rows[len(one.figures) :], len(one.figures) + 1):
            if one.stopped is None:
                one.trial.report(value, number)
                if one.trial.should_prune():
                    log.info("%s: stopped at %s %.2f", one.folder.name, self.sweep.metric, value)
                    one.stop()
        one.figures = rows
        if ended:
            self.running.remove(one)
            self._finish(one)
        elif one.stopped is not None:
            one.stop()

    def _finish(self, one: Running) -> None:
        """Write down what came of a trial: its best figure, that it was stopped, or why it failed."""
        from optuna.trial import TrialState

        best = best_figure(one.figures, self.sweep.maximize)
        one.trial.set_user_attr("seconds", round(time.monotonic() - one.begun, 1))
        if best is not None:
            one.trial.set_user_attr("epoch", best[0])
        reason = self._failure(one, best)
        if one.stopped is not None:
            one.trial.set_user_attr("best", best[1] if best else None)
            self.study.tell(one.trial, state=TrialState.PRUNED)
        elif reason is None and best is not None:
            log.info("%s: %s %.2f (epoch %d)", one.folder.name, self.sweep.metric, best[1], best[0])
            self.study.tell(one.trial, best[1])
        else:
            log.warning("%s failed: %s (see %s)", one.folder.name, reason, one.folder / LOG)
            one.trial.set_user_attr("reason", reason)
            self.study.tell(one.trial, state=TrialState.FAIL)
        self.finished()

    def _failure(self, one: Running, best: tuple[int, float] | None) -> str | None:
        status = one.process.returncode
        if status:
            return f"{last_words(one.folder / LOG)} (status {status})"
        return f"it ended without a finite {self.sweep.metric}" if best is None else None


def read_progress(file: Path) -> list[tuple[int, float]]:
    """Epoch and figure of each validation so far; a line that is still being written is left for the next time."""
    if not file.is_file():
        return []
    *lines, _ = file.read_text(encoding="utf-8").split("\n")
    rows = map(json.loads, lines)
    return [(row["epoch"], row["value"]) for row in rows]


def best_figure(figures: Sequence[tuple[int, float]], maximize: bool) -> tuple[int, float] | None:
    """Epoch and value of the best figure, the earlier of equal ones; None where none is finite.

    Example:
        >>> best_figure([(0, 1.0), (1, 3.0), (2, 3.0), (3, float("nan"))], maximize=True)
        (1, 3.0)
    """
    finite = [figure for figure in figures if math.isfinite(figure[1])]
    return max(finite, key=lambda figure: figure[1] if maximize else -figure[1], default=None)


def last_words(file: Path) -> str:
    """What a failed command said of it, in a line."""
    hint = "(RSRETRIEVAL_TRACEBACK"
    text = file.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(hint)]
    return lines[-1] if lines else "it said nothing"
