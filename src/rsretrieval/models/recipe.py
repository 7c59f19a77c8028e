"""How a model was trained, for its card: in sentences, and as a configuration without what is of one machine alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from rsretrieval import __version__
from rsretrieval.models.standalone import towers_of
from rsretrieval.records.run import TrainedRun
from rsretrieval.redaction import redacted
from rsretrieval.settings import flat

if TYPE_CHECKING:
    from rsretrieval.models.pretrained import ModelSource

RECIPE = "training.yaml"
"""The configuration that a model was trained with, beside it."""
OF_THE_MACHINE = (
    "ckpt_path", "trainer.default_root_dir", "trainer.logger", "checkpoint.dirpath", "last.dirpath", "resume.dirpath",
)  # fmt: skip
"""Settings that say where a run writes, and to whom; not how it trains."""
PACKAGES = ("torch", "lightning", "timm", "open_clip_torch", "transformers")


def _is_path(value: object) -> bool:
    """Whether a setting is a path that only one machine has."""
    return isinstance(value, str) and (
        value.startswith(("~", "file:")) or PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()
    )


def shown(value: str) -> str:
    """A setting as others may see it: of a path that only one machine has the last part."""
    if not _is_path(value):
        return value
    return PureWindowsPath(value).name if "\\" in value else PurePosixPath(value).name


def data_name(source: str, path: str) -> str:
    """What a data set is called: by its source, and by its path, of one on a machine the last part.

    Example:
        >>> data_name("rsicd", ""), data_name("hub", "OWNER/NAME"), data_name("parquet", "/home/me/rsicd")
        ('rsicd', 'OWNER/NAME', 'rsicd')
    """
    return shown(path) or source


def _portable(settings: Any, name: str = "") -> Any:  # noqa: ANN401 - plain values of any shape
    """Settings without :data:`OF_THE_MACHINE`; of paths of one machine the last part."""
    if isinstance(settings, Mapping):
        inner = {key: f"{name}.{key}".lstrip(".") for key in settings}
        return {
            key: _portable(value, inner[key]) for key, value in settings.items() if inner[key] not in OF_THE_MACHINE
        }
    if isinstance(settings, list):
        return [_portable(value, name) for value in settings]
    return shown(settings) if isinstance(settings, str) else settings


def recipe(run: TrainedRun) -> str | None:
    """The run's configuration as YAML, to be trained again with; None where it is not known."""
    import yaml

    return redacted(yaml.safe_dump(_portable(run.settings), sort_keys=False)) if run.settings else None


def training_lines(source: ModelSource, run: TrainedRun | None) -> list[str]:
    """The card's section on the training."""
    lines = [f"- {sentence}" for sentence in _told(source, run)]
    if run and run.settings:
        lost = [name for name, value in flat(run.settings).items() if _has_path(value)]
        lines += ["", f"    rsretrieval fit -c {RECIPE}", ""]
        lines += [f"trains it again, by the whole configuration, `{RECIPE}` beside this card."]
        if lost := [name for name in lost if not name.startswith(OF_THE_MACHINE)]:
            lines += [
                f"Of paths it has the last part alone: give your own for {', '.join(f'`{one}`' for one in lost)}."
            ]
    return lines


def _has_path(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_path, value.values()))
    return any(map(_has_path, value)) if isinstance(value, list) else _is_path(value)


def _told(source: ModelSource, run: TrainedRun | None) -> Iterator[str]:
    if run is None:
        seen = ", ".join(source.trained_on)
        yield "No checkpoint of a run was exported: how it was trained is not known here."
        yield from [f"The pair that it is saw the training splits of {seen}."] if seen else []
    else:
        yield from _run_told(run)
    for tower in towers_of(source.encoder):
        learns = "frozen" if tower.frozen else "trained"
        began = f"from `{shown(tower.weights)}`" if tower.weights else "from nothing"
        yield (
            f"Tower `{shown(tower.name)}` of {tower.library}, {learns} {began}."
            if run
            else (f"Tower `{shown(tower.name)}` of {tower.library}.")
        )
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    trained = f"Lightning {run.lightning} trained it; exported" if run and run.lightning else "Exported"
    yield f"{trained} by rsretrieval {__version__} with {packages}."


def _run_told(run: TrainedRun) -> Iterator[str]:
    data, settings = run.settings.get("data") or {}, run.settings
    yield f"Data: the training split of {data_name(*run.data)}." if run.data else "The data are not known."
    if data.get("revision"):
        yield f"Revision of the data: `{data['revision']}`."
    seed = f", seed {settings['seed_everything']}" if "seed_everything" in settings else ""
    epochs = (settings.get("trainer") or {}).get("max_epochs")
    yield f"{run.epoch + 1}{f' of {epochs}' if epochs else ''} epochs, {run.steps} steps{seed}."
    for stage in (settings.get("schedule") or {}).get("stages") or ():
        losses = " + ".join(f"{weight:g} * {name}" for name, weight in stage["losses"].items())
        yield f"From epoch {stage['from_epoch']}: {losses}."
