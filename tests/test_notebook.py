"""Every notebook runs from top to bottom, shows its figures and pictures, and is kept without its outputs."""

import re
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"


class Shown(NamedTuple):
    """What a notebook shows: the number of its pictures, and patterns that its text has."""

    pictures: int
    text: tuple[str, ...]


SHOWN = {
    "quickstart": Shown(2, (r"t2i_R@10",)),
    "your_own_images": Shown(
        5,
        (
            r"train: 800 images, 4000 captions\nvalid: 100 images, 500 captions\ntest: 100 images, 500 captions\n",
            r"\ntest +(\d+\.\d\d *){6}",
            r"flat: 1,000 rows, 1,000 added",
            r"1 +1\.0000 .*harbour_900\.png",  # a picture that is searched by is the first answer
        ),
    ),
    "the_method": Shown(
        5,
        (
            r"64 pairs of 1\d scenes",
            r"0\.95 .*\n",
            r"trained: \d+ % of the hardest captions",
            r"scene-adaptive, epoch  0  \d\.\de-(09|1\d)",  # of equal weights, which make it a constant
            r"scene-adaptive, epoch 10  \d\.\de-0[1-3]",
        ),
    ),
    "where_in_a_scene": Shown(
        4,
        (
            r"256 scenes, 1024 x 1024 pixels",
            r"\d+ windows; mean cosines from -?\d\.\d\d to \d\.\d\d",
            r"cells of 32 pixels",
            r"\n +\d+\.\d %  airport\n",
            r"heat\.tif \d+ bytes\nEPSG:32631 BoundingBox\(left=447000\.0, .* COG",
        ),
    ),
    "reading_results": Shown(
        3,
        (
            r"every: ceiling +100\.00 +100\.00 +100\.00 +95\.40 +100\.00 +100\.00 +99\.23",
            r"distinct: ceiling( +100\.00){7}",
            r"collapsed, expected +0\.33 +1\.66 +3\.29 +0\.33 +1\.67 +3\.33 +1\.77",
            r"collapsed, optimistic( +100\.00){7}",
            r"collapsed, pessimistic( +0\.00){7}",
            r"mR by seed: \d+\.\d\d, \d+\.\d\d; spread",
        ),
    ),
}


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def test_every_notebook_is_run() -> None:
    assert {file.stem for file in FOLDER.glob("*.ipynb")} == set(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_is_valid_and_kept_without_outputs_or_private_names(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in code] == [([], None)] * len(code)
    assert not any(re.search(r"\._[a-z]|import _[a-z]", cell.source) for cell in code)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_runs_from_top_to_bottom(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shortened = {"EPOCHS": "2", "SHARE": "0.1", "SEEDS": "2", "RUN": str(tmp_path / "run")}
    for setting, value in shortened.items():
        monkeypatch.setenv(f"NOTEBOOK_{setting}", value)
    notebook = read(name)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    assert [pattern for pattern in SHOWN[name].text if not re.search(pattern, text)] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) == SHOWN[name].pictures
