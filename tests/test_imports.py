"""Imports point one way: cli, then module, data and report, then models, losses, metrics, then distributed, types."""

import ast
from pathlib import Path

import pytest

import rsretrieval

ROOT = Path(rsretrieval.__file__).parent
BELOW = {
    "types": set(),
    "cache": set(),
    "distributed": set(),
    "schedule": set(),
    "losses": {"schedule", "types"},
    "metrics": set(),
    "models": {"cache", "types"},
    "data": {"cache", "distributed", "types"},
    "optimizer": {"models"},
    "module": {"distributed", "losses", "metrics", "models", "optimizer", "schedule", "types"},
    "callbacks": {"losses", "module", "schedule"},
    "report": {"data", "metrics", "module"},
    "retriever": {"cache", "data", "metrics", "models", "module"},
    "cli": {"callbacks", "data", "module", "report", "retriever"},
    "__main__": {"cli"},
}


@pytest.mark.parametrize("part", sorted({p.relative_to(ROOT).parts[0].removesuffix(".py") for p in ROOT.rglob("*.py")}))
def test_imports(part: str) -> None:
    if part == "__init__":
        return
    files = [ROOT / f"{part}.py"] if (ROOT / f"{part}.py").is_file() else sorted((ROOT / part).rglob("*.py"))
    names = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    ours = {name.split(".")[1] for name in names if name.startswith("rsretrieval.")}
    assert ours - {part} <= BELOW[part]
    assert not any(name.split(".")[0] == "wandb" for name in names)  # Lightning's logger is the one way to it
