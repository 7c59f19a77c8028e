"""Configurations: those that come with the package by name, and those of older versions by today's names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import rsretrieval
from rsretrieval.compatibility import current_arguments, current_settings

KINDS = ("*.yaml", "ablation/*.yaml", "launch/*.yaml", "logger/*.yaml", "upper/*.yaml")
"""Where configurations lie, below the folder of all."""
_OPTIONS = ("-c", "--config")


def shipped() -> dict[str, Path]:
    """Name to file of each configuration that comes with the package; those of a folder by ``logger/NAME``."""
    folders = [Path(folder) for folder in rsretrieval.__path__]
    places = [*(folder / "configs" for folder in folders), *(folder.parents[1] / "configs" for folder in folders)]
    files = [(place, file) for place in reversed(places) for kind in KINDS for file in sorted(place.glob(kind))]
    return {file.relative_to(place).with_suffix("").as_posix(): file for place, file in files}


def find(name: str) -> Path:
    """The configuration file that a name or path means; a path wins.

    Raises:
        FileNotFoundError: naming the configurations that there are.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = shipped()
    if path.name and path.suffix in ("", ".yaml") and path.with_suffix("").as_posix() in known:
        return known[path.with_suffix("").as_posix()]
    raise FileNotFoundError(f"there is no configuration '{name}': give a file, or one of {list(known)}")


def resolve(arguments: Sequence[str]) -> tuple[list[str], list[dict[str, Any]]]:
    """Arguments with every configuration found and everything by today's names; and the configurations' contents.

    Args:
        arguments: of the command line.

    Raises:
        FileNotFoundError: for a configuration that is not there.
        ValueError: for one that is no YAML, no settings, or has one of them twice.
    """
    import yaml

    resolved: list[str] = []
    contents: list[dict[str, Any]] = []
    for argument, name in _with_configs(map(_null, current_arguments(arguments))):
        if name is None:
            resolved.append(argument)
            continue
        is_written_out = name.lstrip().startswith("{")
        source = name if is_written_out else str(find(name))
        where = "the configuration on the command line" if is_written_out else f"'{source}'"
        try:
            text = name if is_written_out else Path(source).read_text(encoding="utf-8")
            _refuse_doubles(yaml.compose(text, yaml.SafeLoader), where)
            settings = yaml.safe_load(text) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{where} is no YAML: {error}") from error
        if not isinstance(settings, dict):
            raise ValueError(f"{where} is no configuration: it holds a {type(settings).__name__}, not settings by name")
        current = current_settings(settings, where)
        contents.append(current)
        resolved += [_OPTIONS[1], source if settings and current == settings else json.dumps(current)]
    return resolved, contents


def _refuse_doubles(node: Any, where: str) -> None:  # noqa: ANN401 - yaml is untyped
    """Refuse a setting that is there twice, of which YAML would take the last.

    Raises:
        ValueError: naming it and its line.
    """
    parts = node.value if node is not None and isinstance(node.value, list) else []
    known: set[str] = set()
    for part in parts:
        key, value = part if isinstance(part, tuple) else (None, part)
        if key is not None and key.value in known:
            raise ValueError(f"{where}, line {key.start_mark.line + 1}: '{key.value}' is there twice: leave one")
        known |= set() if key is None else {key.value}
        _refuse_doubles(value, where)


def given(option: str, arguments: Sequence[str], contents: Iterable[Mapping[str, Any]] = ()) -> Any:  # noqa: ANN401
    """What is given of an option before anything is parsed: by the last argument, or else the last configuration.

    Args:
        option: such as ``model.pretrained``.
        arguments: of the command line.
        contents: of its configurations.

    Returns:
        Text, or a configuration's value; None where nothing or null is given.

    Example:
        >>> given("data.path", ["fit", "--data.path", "b"], [{"data": {"path": "a"}}]), given("data.path", ["fit"])
        ('b', None)
    """
    *groups, last = option.split(".")
    value: Any = None
    for content in contents:
        part: Any = content
        for group in groups:
            part = part.get(group) if isinstance(part, Mapping) else None
        if isinstance(part, Mapping):
            value = part.get(last, value)
    for argument, following in pairwise([*arguments, ""]):
        name, equals, text = argument.partition("=")
        if name == f"--{option}":
            value = text if equals else following
    return None if value == "null" else value


def _null(argument: str) -> str:
    """``None``, as sweep agents write it, is YAML's ``null``."""
    option, _, value = argument.partition("=")
    if argument == "None":
        return "null"
    return f"{option}=null" if option.startswith("--") and value == "None" else argument


def _with_configs(arguments: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Each argument, and for ``-c`` the configuration that it names."""
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if option not in _OPTIONS:
            yield argument, None
        else:
            name = value if equals else next(rest, "")
            yield option, name[1:-1] if name[:1] == name[-1:] == '"' else name  # a sweep writes texts as JSON
