"""What the folder of a run says about one of its checkpoints: settings, figures by split, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsretrieval.records.logs import LOG_READERS, Log, by_epoch, latest, read_log, sessions
from rsretrieval.records.queries import account_of, query_file

CONFIG = "config.yaml"
COUNTS = ("skipped",)
"""Of images, logged beside a split's figures."""


@dataclass(frozen=True)
class SplitFigures:
    """The figures of a checkpoint on a split.

    Attributes:
        title: of the split, with the epoch or what was corrected.
        split: ``val`` or ``test``.
        data: source and path of the data set.
        figures: name to value, in percent.
        file: they were read from, below the run's folder.
        protocol: ``every`` caption a query, or each ``distinct`` one; None where it is not known.
        counts: images and texts that were queries, where they are known.
    """

    title: str
    split: str
    data: tuple[str, str]
    figures: Mapping[str, float]
    file: str
    protocol: str | None
    counts: tuple[int, int] | None


@dataclass(frozen=True)
class TrainedRun:
    """A run as it made one of its checkpoints.

    Attributes:
        checkpoint: the file.
        epoch: its last one, counted from 0.
        steps: of the optimiser until then.
        lightning: version that trained it.
        data: source and path of the data set; None where an older version trained it.
        seen: side of the images in pixels and words of a text, in evaluation; None where an older version trained it.
        settings: the run's whole configuration; empty where its folder is gone.
        figures: by split.
        missing: sentences on what is not known, and why.
    """

    checkpoint: Path
    epoch: int
    steps: int
    lightning: str
    data: tuple[str, str] | None
    seen: tuple[int, int] | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: tuple[SplitFigures, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def monitor(self) -> str | None:
        """The figure that the checkpoint was chosen by; None for one that is no run's best, or not known to be."""
        chosen = self.settings.get("checkpoint") or {}
        is_best = self.checkpoint.stem.startswith(str(chosen.get("filename") or "best"))
        return chosen.get("monitor") if is_best else None


def run_of(checkpoint: Path, content: Mapping[str, Any]) -> TrainedRun:
    """What is known of the training that a checkpoint is of.

    Args:
        checkpoint: the file, in a run's folder or its ``checkpoints``; elsewhere nothing is known but what it holds.
        content: of it.
    """
    import yaml

    folder = next((one for one in checkpoint.absolute().parents[:2] if (one / CONFIG).is_file()), None)
    settings = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")) or {} if folder else {}
    configured = settings.get("data") or {}
    data = content.get("RetrievalDataModule", {})
    source = data.get("source") or [configured.get("source"), configured.get("path")]
    own = (
        *(checkpoint, int(content["epoch"]), int(content["global_step"])),
        str(content.get("pytorch-lightning_version", "")),
        (str(source[0]), str(source[1] or "")) if source[0] else None,
        (data["eval_image_size"], data["max_words"]) if "eval_image_size" in data else None,
        settings,
    )
    if folder is None:
        missing = f"no figures and no configuration: no folder of a run with {CONFIG} is around the checkpoint"
        return TrainedRun(*own, missing=(missing,))
    log = read_log(folder)
    if not _is_of(log, content):
        why = "no figures: the log in the run's folder is of another training than this checkpoint"
        return TrainedRun(*own, missing=(why,))
    found = [*_validation(folder, log, TrainedRun(*own)), *_evaluated(folder, log, checkpoint.name)]
    figures = tuple(one for one in found if isinstance(one, SplitFigures))
    return TrainedRun(*own, figures, tuple(one for one in found if isinstance(one, str)))


def _is_of(log: Log, content: Mapping[str, Any]) -> bool:
    """Whether the log has the best figure that the checkpoint remembers, or says nothing of its epoch."""
    best = content.get("callbacks", {}).get("RetrievalReport", {}).get("best")
    logged = by_epoch(log, "val/mR").get(best["epoch"]) if best else None
    return logged is None or math.isclose(logged, best["figures"]["mR"], abs_tol=1e-3)


def _validation(folder: Path, log: Log, run: TrainedRun) -> Iterator[SplitFigures | str]:
    """Those that training logged when it wrote the checkpoint."""
    step = run.steps - 1
    values = {name: steps[step] for name, steps in log.items() if name.startswith("val/") and step in steps}
    figures = _without_counts({name.removeprefix("val/"): value for name, value in values.items()})
    if "mR" not in figures or run.data is None:
        yield "no validation figures of the training: none were logged when it wrote the checkpoint"
        return
    limit = (run.settings.get("trainer") or {}).get("limit_val_batches")
    part = "" if limit in (None, 1.0) else f", of limit_val_batches={limit}"
    account, counts = _account(folder, "val")
    same_data = account is not None and account.get("data") == list(run.data)
    protocol = (run.settings.get("data") or {}).get("queries")
    file = _origin(folder, "val/mR", figures["mR"])
    title = f"validation, epoch {run.epoch}{part}"
    yield SplitFigures(title, "val", run.data, figures, file, protocol, counts if same_data and not part else None)


def _evaluated(folder: Path, log: Log, checkpoint: str) -> Iterator[SplitFigures | str]:
    """Those of ``rsretrieval validate`` and ``rsretrieval test``, where they are known to be of the checkpoint."""
    for split, command in (("val", "validate"), ("test", "test")):
        figures = {"": latest(log, f"{command}/"), ", corrected for hubs": latest(log, f"{command}_hubness_corrected/")}
        account, counts = _account(folder, split)
        name = query_file(folder, split).name
        if "mR" not in figures[""]:
            if split == "test":
                yield "no test figures: `rsretrieval test` was not run in the run's folder"
        elif account is None:
            yield f"no figures of `rsretrieval {command}`: without {name} it is not known which checkpoint they are of"
        elif account["of"] != checkpoint:
            yield f"no figures of `rsretrieval {command}`: the last ones are of {account['of']}, not of {checkpoint}"
        elif "data" not in account:
            yield f"no figures of `rsretrieval {command}`: {name} of an older version does not say of which data"
        else:
            data = (str(account["data"][0]), str(account["data"][1]))
            for title, values in figures.items():
                if "mR" in values:
                    logged = f"{split}{'_hubness_corrected' if title else ''}/mR"
                    file = _origin(folder, logged, values["mR"])
                    own = (_without_counts(values), file, account["queries"], counts)
                    yield SplitFigures(f"{command}{title}", split, data, *own)


def _without_counts(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name not in COUNTS}


def _account(folder: Path, split: str) -> tuple[dict[str, Any] | None, tuple[int, int] | None]:
    """What the queries of a split are of, and how many images and texts were queries."""
    import pyarrow.parquet as pq

    file = query_file(folder, split)
    account = account_of(pq.read_schema(file).metadata) if file.is_file() else None
    if account is None:
        return None, None
    ways = pq.read_table(file, columns=["way"])["way"].to_pylist()
    return account, (ways.count("i2t"), ways.count("t2i"))


def _origin(folder: Path, name: str, value: float) -> str:
    """The newest log that has a figure, below the run's folder."""
    files = [(kind, file) for kind, of_kind in sessions(folder).items() for file in of_kind]
    having = [file for kind, file in files if value in LOG_READERS[kind].read(file).get(name, {}).values()]
    return having[-1].relative_to(folder).as_posix()
