"""Sweeps whose trials are small programs that train nothing."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rsretrieval.sweeps.definition import Sweep, read_sweep
from rsretrieval.sweeps.results import Result, results, write_table
from rsretrieval.sweeps.study import open_study
from rsretrieval.sweeps.trials import Trials

FIT = ["${env}", "${interpreter}", "-m", "rsretrieval", "fit", "-c", "quickstart", "${args}"]
FAKE = """
import json, os, sys, time
settings, progress, parent = json.loads(sys.argv[1]), sys.argv[2], os.getppid()
if settings.get("crash"):
    print("a word before"); sys.exit("rsretrieval: ValueError: too much of it")
for epoch in range(4):
    with open(progress, "a") as file:
        file.write(json.dumps({"epoch": epoch, "value": settings["x"] * 10 + epoch}) + "\\n")
    if os.environ.get("HANG") and epoch == 1:
        while os.getppid() == parent: time.sleep(0.02)
        sys.exit(1)
    time.sleep(settings.get("wait", 0))
"""


def sweep(parameters: dict[str, Any], **others: Any) -> Sweep:
    content = {
        "method": "random", "metric": {"name": "val/mR", "goal": "maximize"}, "command": FIT, "parameters": parameters,
        **others,
    }  # fmt: skip
    return read_sweep(Path("my.yaml"), yaml.safe_dump(content, sort_keys=False))


def fake(settings: Mapping[str, Any], folder: Path) -> list[str]:
    return [sys.executable, "-S", "-c", FAKE, json.dumps(dict(settings)), str(folder / "progress.jsonl")]


def run(plan: Sweep, folder: Path, trials: int, jobs: int = 1, seed: int = 0) -> list[Result]:
    with open_study(plan, folder, seed) as study:

        def finished() -> None:
            write_table(results(study, plan), plan, folder)

        Trials(plan, study, folder, fake, [None] * jobs, finished).run(trials)
        return results(study, plan)
