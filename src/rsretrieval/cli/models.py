"""``rsretrieval models list [NAME]``: the pre-trained models that are known by name, and how to check one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from rsretrieval.cli.plugins import add_plugins, load_plugins
from rsretrieval.models.catalogue import MODELS, PUBLISHED_ON, ModelEntry, entry_of, known_models, published

COLUMNS = ("name", "library", "architecture", "where", "licence", "trained on", "checked")
OWN = {"library": "rsretrieval", "checked": "comes with the package, with its figures in its README.md"}
"""What there is to say of a published model."""
LEGEND = """
inferred: its file was not seen here, and something of its entry is concluded from other sources.
rsretrieval models list NAME: every field, what is inferred, and the command that compares it with its published figure.
"""


def main(arguments: Sequence[str]) -> None:
    """Run ``models``, the first of the arguments."""
    parser = ArgumentParser(prog="rsretrieval models", description="Pre-trained models that are known by name.")
    commands = parser.add_subcommands(dest="command")
    commands.add_subcommand("list", _list_options(), help="all of them as a table, or one with all that is known of it")
    chosen: Any = parser.instantiate(parser.parse_args(list(arguments[1:])))
    options = chosen.list
    load_plugins(options.plugins)
    names = [*published(), *known_models()] if options.name is None else [options.name]
    if options.json:
        shown = json.dumps({name: OWN if name in published() else asdict(_entry(name)) for name in names}, indent=1)
    elif options.name is None:
        shown = table(names)
    else:
        shown = details(options.name)
    print(shown)  # noqa: T201 - a command's output


def _list_options() -> ArgumentParser:
    options = ArgumentParser(description="The models for --model.pretrained and Retriever.from_pretrained.")
    options.add_argument("name", type=str | None, nargs="?", help="of one model, or a YAML file of an entry")
    options.add_argument("--json", action="store_true", help="as JSON, every field by name of the model")
    add_plugins(options)
    return options


def _entry(name: str) -> ModelEntry:
    return entry_of(name) or MODELS[name]  # which refuses an unknown one


def table(names: Iterable[str]) -> str:
    """A line each of these models, in columns; and what the words in it mean."""
    rows = [COLUMNS, *(_row(name) for name in names)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n" + LEGEND


def _row(name: str) -> tuple[str, ...]:
    if name in published():
        return name, OWN["library"], "-", "-", "-", " ".join(PUBLISHED_ON.get(name, ())), "comes with the package"
    entry = _entry(name)
    checked = "inferred" if "inferred" in entry.checked else entry.checked
    place = f"tag {entry.tag}" if entry.tag else entry.weights.removeprefix("hub:")
    cells = (entry.library, entry.architecture, place, entry.licence, " ".join(entry.trained_on), checked)
    return name, *(cell or "-" for cell in cells)


def details(name: str) -> str:
    """Every field of a model as YAML, which may be saved as an entry of one's own; and how to check it.

    Raises:
        UnknownNameError: naming near ones.
    """
    if name in published():
        return f"# {name} {OWN['checked']}: it is of this package itself"
    entry = _entry(name)
    fields = {**asdict(entry), "trained_on": list(entry.trained_on)}
    text: str = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=116, default_flow_style=None)
    return text + "\n".join(f"# {line}" for line in checks(name, entry))


def checks(name: str, entry: ModelEntry) -> list[str]:
    """What to run to check an entry, a line each."""
    if entry.bands != 3:
        return [f"to check it: compare Retriever.from_pretrained('{name}') with the original's own code, on its images"]
    lines = ["to check it, its test mR in percent beside the published one:"]
    for data in entry.figures or ("rsicd",):
        figure = entry.figures.get(data)
        wanted = "no figure is known here: compare with the original's own code" if figure is None else f"{figure:.2f}"
        lines.append(
            f"rsretrieval test -c zero_shot --model.pretrained {name} --data.source {data}  # published: {wanted}"
        )
    if entry.activation and not entry.tag:
        other = "gelu" if entry.activation == "quick_gelu" else "quick_gelu"
        lines.append(f"and with the other activation: save this as other.yaml, with activation: {other}, and run")
        lines.append(lines[1].partition("  #")[0].replace(f"pretrained {name}", "pretrained other.yaml"))
    return lines
