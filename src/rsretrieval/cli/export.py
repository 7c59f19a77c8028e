"""``rsretrieval export``: a model as a folder."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from rsretrieval.cli.plugins import add_plugins, load_plugins
from rsretrieval.models.export import export


def main(arguments: Sequence[str]) -> None:
    """Run ``export``, the first of the arguments."""
    parser = ArgumentParser(prog="rsretrieval export", description=export.__doc__)
    parser.add_argument("checkpoint", type=str, help="of a training run, or what else Retriever.from_pretrained takes")
    parser.add_function_arguments(export, as_group=False, as_positional=False, skip={"checkpoint"})
    add_plugins(parser)
    options = vars(parser.parse_args(arguments[1:]))
    load_plugins(options.pop("plugins"))
    export(**options)
