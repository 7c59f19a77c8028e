"""LightningCLI with the options of the command that is run: those of each command take a quarter of a second."""

from __future__ import annotations

from lightning.pytorch.cli import LightningCLI


def of_one_command(cli: type[LightningCLI], command: str) -> type[LightningCLI]:
    """The class, without its other commands.

    Args:
        cli: whose.
        command: such as ``fit``.
    """

    class OneCommand(cli):  # type: ignore[misc, valid-type]
        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            return {command: cli.subcommands()[command]}

    return OneCommand
