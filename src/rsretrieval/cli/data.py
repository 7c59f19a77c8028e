"""``rsretrieval data list | prepare | overlap``: the catalogue, local copies, near-duplicates between sets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser

from rsretrieval.cli.plugins import add_plugins, load_plugins
from rsretrieval.data.datasets.base import DataError
from rsretrieval.data.near_duplicates import Embed
from rsretrieval.data.overlap import overlap
from rsretrieval.data.prepare import describe_datasets, prepare


def main(arguments: Sequence[str]) -> None:
    """Run ``data``, the first of the arguments."""
    parser = ArgumentParser(
        prog="rsretrieval data", description="Data sets: what is known, local copies, near-duplicates."
    )
    commands = parser.add_subcommands(dest="command")
    commands.add_subcommand("list", ArgumentParser(), help="the data sets that are known by name")
    commands.add_subcommand("prepare", _prepare_options(), help="write a data set as local parquet files")
    commands.add_subcommand("overlap", _overlap_options(), help="find the images of a data set that are in another too")
    chosen: Any = parser.instantiate(parser.parse_args(list(arguments[1:])))
    if chosen.command == "list":
        print(describe_datasets())  # noqa: T201 - a command's output
        return
    settings = vars(chosen[chosen.command])
    load_plugins(settings.pop("plugins"))
    if chosen.command == "prepare":
        try:
            prepare(**settings)
        except ValueError as error:
            raise DataError(_own_options(str(error))) from error
    else:
        name, trusted = settings.pop("model"), settings.pop("trust_remote_code")
        found = overlap(**settings, embed=None if name is None else _embedder(name, trust_remote_code=trusted))
        print(found.text)  # noqa: T201 - a command's output


def _own_options(advice: str) -> str:
    """Advice that names options of ``fit``, by those of ``data prepare``: there the source is an argument."""
    named = re.compile(r"--data\.source (\w+)(?: --data\.path (\S+))?")
    advice = named.sub(lambda found: f"the source {':'.join(filter(None, found.groups()))}", advice)
    return advice.replace("--data.source", "another source").replace("--data.", "--")


def _prepare_options() -> ArgumentParser:
    options = ArgumentParser(description=prepare.__doc__)
    options.add_argument("name", type=str, help="a data set of the list, a hub id OWNER/NAME, or a source")
    options.add_function_arguments(prepare, as_group=False, as_positional=False, skip={"name"})
    add_plugins(options)
    return options


def _overlap_options() -> ArgumentParser:
    options = ArgumentParser(description=overlap.__doc__)
    options.add_argument("a", type=str, help="the set to train on: a name, OWNER/NAME of the hub, or SOURCE:PATH")
    options.add_argument("b", type=str, help="the set to test on")
    options.add_function_arguments(overlap, as_group=False, as_positional=False, skip={"a", "b", "embed"})
    options.add_argument("--model", type=str, default=None, help="compare embeddings too: what Retriever loads by name")
    options.add_argument(
        "--trust_remote_code", type=bool, default=False, help="let the model run Python code that comes with it"
    )
    add_plugins(options)
    return options


def _embedder(name: str, *, trust_remote_code: bool) -> Embed:
    from rsretrieval.retriever import Retriever

    retriever = Retriever.from_pretrained(name, trust_remote_code=trust_remote_code)
    return lambda images: retriever.encode_images(images).numpy()
