"""``fit`` as ``wandb agent`` starts it: W&B's logger, a folder for each trial, an end where the agent is gone."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ENDS = "rsretrieval.training.callbacks.trial.EndsWithParent"


def trial_of_agent() -> str | None:
    """The folder of this process's trial below a run's, from what an agent sets; None where there is no agent.

    A sweep's ``command`` cannot say it: an agent replaces ``${envvar:WANDB_RUN_ID}`` before it knows the trial
    (wandb 0.31, ``Agent._command_run``).
    """
    sweep, run = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    return f"sweep-{sweep}/{run}" if sweep and run else None


def arguments_of_agent(arguments: Sequence[str]) -> list[str]:
    """Arguments of ``fit`` as this package reads them; others, and those without an agent, as they are.

    An agent writes lists and mappings as Python does (``None``, ``True``), and a nested parameter as one mapping, which
    becomes a configuration. W&B's logger is the first configuration, so that any other changes it.
    """
    if trial_of_agent() is None or arguments[:1] != ["fit"]:
        return list(arguments)
    return ["fit", "-c", "logger/wandb", *map(_typed, arguments[1:])]


def of_trial(command: str, root: str) -> list[str]:
    """Options that give a trial a folder of its own below ``root``, and end it where the agent was killed.

    Trials that share a folder share its checkpoints.
    """
    trial = trial_of_agent()
    if trial is None or command != "fit":
        return []
    callback = json.dumps({"class_path": ENDS, "init_args": {"parent": os.getppid()}})
    return [f"--trainer.default_root_dir={Path(root) / trial}", f"--trainer.callbacks+={callback}"]


def _typed(argument: str) -> str:
    option, equals, text = argument.partition("=")
    if not (option.startswith("--") and equals):
        option, equals, text = "", "", argument
    if not text.startswith(("[", "{")):
        return argument
    try:
        value: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return argument  # JSON or YAML already
    if option and isinstance(value, dict) and "class_path" not in value:
        for name in reversed(option.removeprefix("--").split(".")):
            value = {name: value}
        option = "--config"
    return f"{option}{equals}{json.dumps(value)}"
