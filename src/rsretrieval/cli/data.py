"""``rsretrieval data list | prepare``: the catalogue, and local copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser

from rsretrieval.cli.plugins import add_plugins, load_plugins
from rsretrieval.data.prepare import describe_datasets, prepare


def main(arguments: Sequence[str]) -> None:
    """Run ``data``, the first of the arguments."""
    parser = ArgumentParser(prog="rsretrieval data", description="Data sets: what is known, local copies.")
    commands = parser.add_subcommands(dest="command")
    commands.add_subcommand("list", ArgumentParser(), help="the data sets that are known by name")
    options = ArgumentParser(description=prepare.__doc__)
    options.add_argument("name", type=str, help="a data set of the list, a hub id OWNER/NAME, or a source")
    options.add_function_arguments(prepare, as_group=False, as_positional=False, skip={"name"})
    add_plugins(options)
    commands.add_subcommand("prepare", options, help="write a data set as local parquet files")
    chosen: Any = parser.instantiate(parser.parse_args(list(arguments[1:])))
    if chosen.command == "list":
        print(describe_datasets())  # noqa: T201 - a command's output
    else:
        settings = vars(chosen.prepare)
        load_plugins(settings.pop("plugins"))
        prepare(**settings)
