"""A sweep against the configuration that it varies: every setting is there and may have its values."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from jsonargparse import Namespace

from rsretrieval.cli import trainer
from rsretrieval.losses import LOSSES
from rsretrieval.sweeps.definition import Sweep, check_figure
from rsretrieval.sweeps.parameters import Parameter, SweepError
from rsretrieval.training.schedule import Stage, check_stages

MOST_COMBINATIONS = 12
"""Of settings that are tried; each parameter's first so many values."""


class _Parsed(BaseException):  # not to be caught on the way
    def __init__(self, config: Any, own_model: bool) -> None:  # noqa: ANN401 - a namespace
        self.config, self.own_model = config, own_model


class _ParsesOnly(trainer.RetrievalCLI):
    def before_instantiate_classes(self) -> None:
        super().before_instantiate_classes()
        raise _Parsed(self.config[self.subcommand], self.subclass_mode_model)


def check_against_configuration(sweep: Sweep, file: str, arguments: Callable[[Mapping[str, Any]], list[str]]) -> None:
    """Refuse a sweep whose trials could not even begin.

    Args:
        sweep: as it was read.
        file: for messages.
        arguments: of ``fit``, for settings of a trial.

    Raises:
        SweepError: naming the setting that no configuration has, with the near names; the value that is not possible;
            or the metric that never comes.
    """
    base, own_model = parse(arguments({}), f"'{file}': its command")
    if not own_model:
        try:
            check_figure(sweep.metric)
        except SweepError as error:
            raise SweepError(f"'{file}': {error}") from error
    names = list(_names(json.loads(json.dumps(_plain(base), default=str))))
    for settings in combinations_to_try(sweep.parameters):
        try:
            config, _ = parse(arguments(settings), f"'{file}'")
            for name in settings:
                if not _has(config, name):  # the parser takes the beginning of a name for the name
                    raise SweepError(f"'{file}': --{name}= is no setting of `fit`")
            if "schedule" in config:
                check_stages([_stage(stage) for stage in config.schedule.stages], LOSSES)
        except SweepError as error:
            raise SweepError(_with_near_names(str(error), settings, names)) from error
        except (ValueError, KeyError) as error:
            raise SweepError(f"'{file}': {error} (with the settings {settings})") from error


def combinations_to_try(parameters: tuple[Parameter, ...]) -> Iterator[dict[str, Any]]:
    """Settings in which each parameter has each of its values, or the ends of its range, at least once."""
    values = {
        parameter.name: [parameter.value(drawn) for drawn in parameter.choices or (parameter.low, parameter.high)]
        for parameter in parameters
    }
    for number in range(min(MOST_COMBINATIONS, max(map(len, values.values())))):
        yield {name: several[min(number, len(several) - 1)] for name, several in values.items()}


def parse(arguments: list[str], where: str) -> tuple[Any, bool]:
    """The configuration that ``fit`` makes of arguments, and whether its model is a class of the user's own.

    Nothing is built.

    Raises:
        SweepError: with what ``fit`` says of them.
    """
    said = io.StringIO()
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(said), warnings.catch_warnings(action="ignore"):
            trainer.main(arguments, _ParsesOnly)
    except _Parsed as parsed:
        return parsed.config, parsed.own_model
    except SystemExit as end:
        message = said.getvalue().rpartition("error: ")[2].strip() or f"fit ended with status {end.code}"
        raise SweepError(f"{where}: {message}") from end
    finally:
        logging.disable(level)
    raise AssertionError("LightningCLI builds classes without before_instantiate_classes")


def _has(config: Any, name: str) -> bool:  # noqa: ANN401 - a namespace or what is in one
    """Whether a configuration has a setting; what is below a mapping of free keys counts."""
    for part in name.split("."):
        if isinstance(config, Mapping):
            return True
        if not isinstance(config, Namespace) or part not in config:
            return False
        config = config[part]
    return True


def _stage(stage: Any) -> Stage:  # noqa: ANN401 - a namespace or built
    return stage if isinstance(stage, Stage) else Stage(stage.from_epoch, stage.losses)


def _plain(config: Any) -> Any:  # noqa: ANN401 - any part of a configuration
    return config.as_dict() if isinstance(config, Namespace) else config


def _names(settings: Mapping[str, Any], group: str = "") -> Iterator[str]:
    """Names with dots of all settings."""
    for key, value in settings.items():
        yield f"{group}{key}"
        if isinstance(value, Mapping):
            yield from _names(value, f"{group}{key}.")


def _with_near_names(message: str, settings: Mapping[str, Any], names: list[str]) -> str:
    """A message of the parser's; of a setting that is not there, with those that are called nearly so."""
    unknown = [name for name in settings if name not in names and f"--{name}=" in message]
    for name in unknown:
        last = name.rpartition(".")[2]
        near = get_close_matches(name, names, 3, 0.7) or [one for one in names if one.rpartition(".")[2] == last][:3]
        meant = f", meant is perhaps {' or '.join(near)}" if near else ""
        message += f"\nno configuration has the sweep's parameter '{name}'{meant} (`rsretrieval fit --help` names all)"
    return message
