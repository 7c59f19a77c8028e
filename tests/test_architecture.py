"""What docs/architecture.md promises: layers, walks, short files, no argument list written twice, a light import."""

import ast
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rsretrieval
from rsretrieval import compatibility

ROOT = Path(rsretrieval.__file__).parent
REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "architecture.md"
NAME = "rsretrieval"

LAYERS = (  # top to bottom; a part imports from layers below its own, and never from beside it
    ("__main__",),
    ("cli",),
    ("__init__",),  # the public names
    ("serve",),
    ("localization", "reports"),
    ("archive", "classification", "sweeps", "training"),
    ("retriever",),
    ("data", "models"),
    ("losses", "metrics"),
    ("embeddings", "images", "records"),
    ("types", "distributed", "registry", "files", "settings", "compatibility", "lazy", "recent", "redaction"),
)
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
# Lightning's logger is the one way to it; these files say why they are not.
FORBIDDEN = {"wandb": ["training/wandb_run.py", "records/wandb_file.py"]}
LONGEST_FILE, LONGEST_BODY, LONGEST_WALK, SHARED_ARGUMENTS = 250, 40, 8, 6

LONG_FILES: dict[str, str] = {}  # with the reason; none now
REPEATED_ARGUMENTS = {
    ("data/datamodule.py RetrievalDataModule.__init__", "data/prepare.py prepare"): (
        "settings of a data set by the same names in a configuration and as options of a command of its own; "
        "LightningCLI and jsonargparse read both from the signatures"
    ),
}


def files(root: Path) -> Iterator[tuple[Path, ast.Module]]:
    """Every module below the package's folder, parsed."""
    for file in sorted(root.rglob("*.py")):
        yield file.relative_to(root), ast.parse(file.read_text(encoding="utf-8"))


def imported(tree: ast.Module, package: list[str], modules: set[str]) -> Iterator[str]:
    """Full names of what a module imports, wherever in it: absolute, relative, in functions, for types, by a string.

    Args:
        tree: of the module.
        package: that it belongs to, as in ``["rsretrieval", "data"]``.
        modules: names of the package's modules; a string that is one of them counts as an import.
    """

    def absolute(name: str, level: int) -> str:
        parents = package[: len(package) - level + 1] if level else []
        return ".".join([*parents, *([name] if name else [])])

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{absolute(node.module or '', node.level)}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            level = len(node.value) - len(node.value.lstrip("."))
            name = absolute(node.value[level:], level)
            if name in modules and name != NAME:
                yield name


def violations(root: Path) -> list[str]:
    """``FILE -> NAME`` of every import that the layers do not allow."""
    dotted = {path: ".".join([NAME, *path.with_suffix("").parts]).removesuffix(".__init__") for path, _ in files(root)}
    wrong = []
    for path, tree in files(root):
        own = path.parts[0].removesuffix(".py")
        for name in imported(tree, [NAME, *path.parts[:-1]], set(dotted.values())):
            top, *rest = name.split(".")
            part = rest[0] if rest and rest[0] in LAYER else "__init__"
            is_ours = top == NAME and part != own and rest != ["__version__"]
            is_forbidden = top in FORBIDDEN and path.as_posix() not in FORBIDDEN[top]
            if is_forbidden or (is_ours and LAYER[part] <= LAYER[own]):
                wrong.append(f"{path.as_posix()} -> {name}")
    return wrong


def test_imports_point_downwards() -> None:
    assert violations(ROOT) == []
    parts = {path.parts[0].removesuffix(".py") for path, _ in files(ROOT)}
    assert parts == set(LAYER), "a new part of the package needs a layer here and in docs/architecture.md"


def test_the_check_sees_every_kind_of_import(tmp_path: Path) -> None:
    wrong = {
        "losses/relative.py": "from ..models import config",
        "losses/parent.py": "from .. import data",
        "models/in_function.py": "def f():\n    if True:\n        from rsretrieval.data.table import Table",
        "models/towers/deep.py": "from ...training import module",
        "data/for_types.py": "import typing\nif typing.TYPE_CHECKING:\n    import rsretrieval.models.config",
        "data/by_string.py": "import importlib\nimportlib.import_module('rsretrieval.cli')",
        "data/by_relative_string.py": "import importlib\nimportlib.import_module('..models', __package__)",
        "metrics/lazily.py": "PLACES = {'Objective': 'rsretrieval.losses'}",
        "metrics/public.py": "from rsretrieval import Retriever",
        "training/logger.py": "import wandb.sdk",
        "types.py": "import rsretrieval",
    }
    right = {
        "__init__.py": "from rsretrieval import losses, metrics\n__version__ = '1'",
        **dict.fromkeys((f"{p}/__init__.py" for p in ("cli", "data", "losses", "metrics", "models", "training")), ""),
        "models/towers/beside.py": "from . import deep\nfrom .. import config\nfrom ...losses import contrastive",
        "training/version.py": "from rsretrieval import __version__\nimport wandbless, os",
        "cli/package.py": "import rsretrieval\nfrom ..training.module import RetrievalModule",
        "registry.py": "TEXT = 'see rsretrieval.losses for more'",
    }
    for name, text in {**wrong, **right}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert {line.partition(" ->")[0] for line in violations(tmp_path)} == set(wrong)


def test_the_package_imports_light() -> None:
    modules = ("cli", "cli.data", "cli.export", "data.prepare", "models", "models.export", "training")
    code = f"import sys, {', '.join(f'{NAME}.{module}' for module in modules)}; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not {"torch", "lightning", "datasets", "pyarrow", "transformers", "timm"} & set(out.split())


def section(title: str) -> str:
    """The text of the page below a heading."""
    return re.split(r"\n#+ ", PAGE.read_text(encoding="utf-8").partition(f"## {title}\n")[2])[0]


def walks() -> dict[str, list[str]]:
    """Title to steps of each walk on the page."""
    text = PAGE.read_text(encoding="utf-8")
    parts = re.findall(r"\n### The walk of ([^\n]+)\n(.*?)(?=\n#)", text, re.DOTALL)
    return {title: re.findall(r"^\d+\. (.*(?:\n   .*)*)", body, re.MULTILINE) for title, body in parts}


def definitions(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Names that a module or class defines, those of classes within as ``CLASS.NAME``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from definitions(node, f"{prefix}{node.name}.")
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))


def test_the_page_has_the_layers_that_are_held() -> None:
    rows = re.findall(r"^\| (\d+) \| `([\w/.]+)` ", section("Layers"), re.MULTILINE)
    named = {part.removesuffix("/").removesuffix(".py"): int(number) - 1 for number, part in rows}
    assert named == LAYER
    assert all((ROOT / part).exists() for _, part in rows)


def test_what_the_page_names_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for path in set(re.findall(r"[\w/]+\.py\b|(?<=`)[\w/]+/(?=`)", text)):
        assert (ROOT / path).exists() or (REPOSITORY / path).exists(), path
    references = set(re.findall(r"`([\w/]+\.py) ([\w.]+)`", text))
    assert len(references) > 20
    for path, name in references:
        assert name in set(definitions(ast.parse((ROOT / path).read_text(encoding="utf-8")))), f"{path} {name}"


def test_walks_are_short_and_have_no_way_back() -> None:
    assert list(walks()) == ["an image", "a caption", "the epoch"]
    for title, steps in walks().items():
        assert 0 < len(steps) <= LONGEST_WALK, title
        starts = [re.match(r"`([\w/]+\.py) [\w.]+`", step) for step in steps]
        assert all(starts), f"each step of the walk of {title} begins with a module and a name in it"
        visited = [path for path, _ in itertools.groupby(start[1] for start in starts if start)]
        assert len(visited) == len(set(visited)), f"the walk of {title} comes back: {visited}"


def arguments(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, str, set[tuple[str, str]]]]:
    """Each function's and each class's name, its last part, and its arguments or fields with their annotations."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
            pairs = {(ast.unparse(field.target), ast.unparse(field.annotation)) for field in fields}
            yield prefix + node.name, "", pairs
            yield from arguments(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            all_of_them = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            pairs = {(a.arg, ast.unparse(a.annotation)) for a in all_of_them if a.annotation}
            method = node.name if isinstance(tree, ast.ClassDef) and node.name != "__init__" else ""
            yield prefix + node.name, method, pairs
            yield from arguments(node, f"{prefix}{node.name}.")


def repeated_arguments(root: Path) -> dict[tuple[str, str], list[str]]:
    """Pairs of signatures or lists of fields that share names with annotations; not methods of one contract."""
    places = [(f"{path.as_posix()} {n}", m, a) for path, tree in files(root) for n, m, a in arguments(tree)]
    shared = {}
    for (first, method, pairs), (second, other, others) in itertools.combinations(places, 2):
        both = sorted(name for name, _ in pairs & others)
        overrides = method and method == other  # of one contract, Lightning's hooks among them
        if len(both) >= SHARED_ARGUMENTS and not overrides:
            shared[first, second] = both
    return shared


def test_no_argument_list_is_written_twice(tmp_path: Path) -> None:
    shared = repeated_arguments(ROOT)
    assert {pair: names for pair, names in shared.items() if pair not in REPEATED_ARGUMENTS} == {}
    assert set(REPEATED_ARGUMENTS) <= set(shared), "an exception is no longer needed: remove it"
    six = ", ".join(f"{name}: int" for name in "abcdef")
    (tmp_path / "a.py").write_text(f"class A:\n def __init__(self, {six}): ...\n def step(self, {six}): ...")
    (tmp_path / "b.py").write_text(f"class B:\n {six.replace(', ', '; ')}\n def step(self, {six}): ...")
    assert ("a.py A.__init__", "b.py B") in repeated_arguments(tmp_path)
    assert ("a.py A.step", "b.py B.step") not in repeated_arguments(tmp_path)


def test_files_and_functions_are_short() -> None:
    lengths = {path.as_posix(): len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path, _ in files(ROOT)}
    assert {name for name, lines in lengths.items() if lines >= LONGEST_FILE} == set(LONG_FILES), "see LONG_FILES"
    for path, tree in files(ROOT):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                assert lines < LONGEST_BODY, f"{path} {node.name}: {lines} lines, without its docstring"


def test_what_is_written_in_two_files_agrees() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    tensors = {old.removesuffix("."): new.removesuffix(".") for old, new in compatibility.TENSORS.items()}
    settings = {f"model.{old}": f"model.{new}" for old, new in compatibility.MODEL_SETTINGS.items()}
    for old, new in {**settings, **tensors, **compatibility.LIBRARIES, **compatibility.CLASS_PATHS}.items():
        row = rf"^\|[^|]*\b{re.escape(old)}[^|]*\|[^|]*\b{re.escape(new)}[^|]*\|$"
        assert re.search(row, changelog, re.MULTILINE), f"CHANGELOG.md has no row '{old}' to '{new}'"
    assert f"\nversion: {rsretrieval.__version__}\n" in (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", ["data", "models", "training", "losses", "metrics", "images"])
def test_public_names_are_there(module: str) -> None:
    package = __import__(f"{NAME}.{module}", fromlist=["__all__"])
    assert all(hasattr(package, name) for name in package.__all__)
