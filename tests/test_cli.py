"""Every shipped configuration through the real command line, with tiny towers, no weights and local data."""

import re
from pathlib import Path

import datasets
import pytest
import yaml
from PIL import Image

from rsretrieval.cli import main

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def tiny(run: Path, data: str, bert: str, clip: str, config: Path) -> list[str]:
    """Overrides that keep a configuration's shape and make it small."""
    model = yaml.safe_load(config.read_text()).get("model", {})
    is_clip = model.get("image", {}).get("library") == "open_clip"
    image = {"library": "open_clip", "name": clip} if is_clip else {"library": "timm", "name": "test_resnet"}
    text = {"library": "open_clip", "name": clip} if is_clip else {"library": "transformers", "name": bert}
    prior = {"library": "timm", "name": "test_resnet", "frozen": True}
    small = {
        "trainer": {"accelerator": "cpu", "max_epochs": 1, "precision": "32-true", "default_root_dir": str(run)},
        "data": {
            "source": "parquet", "path": data, "image_size": 64, "eval_image_size": None, "batch_size": 4,
            "num_workers": 0, "holdout": 0.0,
        },
        "model": {
            name: {"weights": None, "options": {}, **tower}
            for name, tower in (("image", image), ("text", text), ("prior", prior))
        },
    }  # fmt: skip
    small["model"]["embed_dim"] = 32
    file = run.parent / "tiny.yaml"
    file.write_text(yaml.safe_dump(small))
    return ["-c", str(config), "-c", str(file)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_starts(
    config: Path, tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str
) -> None:
    run = tmp_path / "run"
    limits = ["--trainer.log_every_n_steps=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    main(["fit", *tiny(run, tiny_data, tiny_bert, tiny_clip, config), *limits])
    assert {file.name for file in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    figures = next(run.rglob("metrics.csv")).read_text().splitlines()[0].split(",")
    assert {"val/mR", "val/i2t_R@1", "val/t2i_R@10", "train/loss", "stage"} <= set(figures)


def test_fit_test_validate_predict(
    tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    args = tiny(run, tiny_data, tiny_bert, tiny_clip, CONFIGS[0])
    with caplog.at_level("INFO"):
        main(["fit", *args])
        main(["test", *args, "--ckpt_path", "best"])
        main(["validate", *args, "--ckpt_path", "last"])
        main(["predict", *args, "--ckpt_path", str(run / "checkpoints" / "best.ckpt")])
    assert re.search(r"val, best epoch \(0\) +\d", caplog.text)
    assert re.search(r"^test( +\d+\.\d\d){7}$", caplog.text, re.MULTILINE)
    for split in ("val", "test"):
        assert Image.open(run / f"results-{split}.png").size[0] > 500
    rows = datasets.Dataset.from_parquet(str(run / "embeddings-0.parquet"))
    assert rows["filename"] == [f"pond_{n}.png" for n in range(5)]
    assert len(rows[0]["embedding"]) == 32
    assert [len(x) for x in rows[0]["caption_embeddings"]] == [32, 32]


def test_a_checkpoint_that_is_not_there(tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str) -> None:
    args = tiny(tmp_path / "run", tiny_data, tiny_bert, tiny_clip, CONFIGS[0])
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 'best' in .* which has \[\]: give the run's folder"):
        main(["test", *args, "--ckpt_path", "best"])
