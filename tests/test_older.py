"""What version 0.1.0's first form wrote still loads: configuration, checkpoint, an epoch's middle, exported folder.

``tests/data/older`` was written at commit 39c173e by its ``make.py``.
"""

import json
import lzma
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from rsretrieval import RetrievalModule, Retriever, cli
from rsretrieval.cli.configs import resolve
from rsretrieval.compatibility import current_model_settings, current_settings
from rsretrieval.models.pretrained import PUBLISHED
from rsretrieval.settings import SettingsError

sys.path.insert(0, str(Path(__file__).parent))
import tiny

OLDER = Path(__file__).parent / "data" / "older"
EXPECTED = torch.load(OLDER / "embeddings.pt", weights_only=True)
TEXTS = ["a red plane", "two ships in the harbour"]


@pytest.fixture
def bert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the older run's text tower is in, below the working directory."""
    (tmp_path / "BERT").mkdir()
    tiny.write_bert(tmp_path / "BERT")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    return tmp_path


@pytest.fixture
def checkpoint(bert: Path) -> str:
    (bert / "run" / "checkpoints").mkdir(parents=True)
    path = bert / "run" / "checkpoints" / "last-step.ckpt"
    path.write_bytes(lzma.decompress((OLDER / "last-step.ckpt.xz").read_bytes()))
    return str(path)


def check(model: torch.nn.Module, tolerance: float) -> None:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.encode_image(images), EXPECTED["image"], atol=tolerance, rtol=0)
        torch.testing.assert_close(model.encode_text(TEXTS), EXPECTED["text"], atol=tolerance, rtol=0)
        torch.testing.assert_close(model.bank.queries()[0], EXPECTED["bank"], atol=tolerance, rtol=0)


def test_a_checkpoint(checkpoint: str) -> None:
    module = RetrievalModule.load_from_checkpoint(checkpoint).eval()
    check(module.model, 1e-5)
    assert module.hubness is not None
    assert module.hubness.queries == "bank"
    assert module.model.config.stabilised_fgis
    cli.main(["export", checkpoint, "--to", "again"])
    check(Retriever.from_pretrained("again").model, 2e-3)


def test_an_exported_folder(bert: Path) -> None:
    retriever = Retriever.from_pretrained(str(OLDER / "exported"))
    check(retriever.model, 2e-3)
    assert (retriever.image_size, retriever.max_words) == (64, 30)


def test_a_run_goes_on_from_its_folder_and_says_that_the_epoch_restarts(
    checkpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its checkpoint was written after two of the four batches of epoch 1."""
    with caplog.at_level("INFO"), pytest.warns(FutureWarning, match=r"'model\.prior' is now 'model\.encoder\.conv"):
        cli.main(["fit", "-c", str(OLDER / "config.yaml"), "--ckpt_path", "last"])
    assert "epoch starts again" in " ".join(caplog.text.split())
    state = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert (state["epoch"], state["global_step"]) == (1, 6 + 4)
    assert {"num_workers", "batch_size", "world_size"} <= state["RetrievalDataModule"].keys()


def test_a_configuration_with_a_warning_that_names_the_new_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(FutureWarning) as caught, pytest.raises(SystemExit):
        cli.main(["fit", "-c", str(OLDER / "config.yaml"), "--print_config"])
    (message,) = {str(warning.message) for warning in caught if warning.category is FutureWarning}
    for old, new in (
        ("model.steady", "model.encoder.stabilised_fgis"), ("model.rerank", "model.hubness"),
        ("library: joint", "library: concat"), ("pooling: levels", "pooling: all_layers"),
        ("rsretrieval.callbacks.AveragedWeights", "rsretrieval.training.callbacks.AveragedWeights"),
    ):  # fmt: skip
        assert f"'{old}' is now '{new}'" in message
    config = yaml.safe_load(capsys.readouterr().out)
    encoder = config["model"]["encoder"]
    assert encoder["text"]["library"] == "concat"
    assert encoder["preprocessing"]["mean"] == [0.4815, 0.4578, 0.4082]
    assert encoder["convolutional_branch"]["options"] == {"channels": [8, 8, 8, 8]}
    assert config["model"]["objective"]["share_captions"] is True
    # What it has become is read without a word.
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        assert current_settings(config, "x")["model"] == config["model"]


def test_options_of_the_command_line() -> None:
    with pytest.warns(
        FutureWarning, match=r"'--model\.embed_dim' of an older version is now '--model\.encoder\.embed_"
    ):
        assert resolve(["--model.embed_dim=8", "--model.prior.frozen", "true"])[0] == [
            "--model.encoder.embed_dim=8", "--model.encoder.convolutional_branch.frozen", "true",
        ]  # fmt: skip
    with pytest.warns(FutureWarning):
        assert resolve(["--model.rerank.method=csls"])[0] == ["--model.hubness.method=csls"]
    assert resolve(["--model.encoder.embed_dim=8", "--model.optimizer.eps=1"])[0] == [
        "--model.encoder.embed_dim=8", "--model.optimizer.eps=1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["--model.text.pooling", "levels"], ["--model.encoder.text.pooling", "all_layers"]),
        (["--model.encoder.image.pooling=levels"], ["--model.encoder.image.pooling=all_stages"]),
        (["--model.image.library=joint"], ["--model.encoder.image.library=concat"]),
        (["--trainer.callbacks=rsretrieval.callbacks.X"], ["--trainer.callbacks=rsretrieval.training.callbacks.X"]),
        (["-c", '{"model": {"steady": true}}'], ["--config", '{"model": {"encoder": {"stabilised_fgis": true}}}']),
    ],
)
def test_values_and_configurations_on_the_command_line(old: list[str], new: list[str]) -> None:
    with pytest.warns(FutureWarning, match="of an older version"):
        assert resolve(old)[0] == new
    assert resolve(["--data.path", "levels"])[0] == ["--data.path", "levels"]


def test_a_setting_of_a_newer_version_is_named(checkpoint: str, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["objective"]["focus"] = 2.0
    torch.save(content, tmp_path / "newer.ckpt")
    with pytest.raises(
        SettingsError, match=r"no settings of ObjectiveConfig .* newer version wrote them, upgrade: .*'?focus"
    ):
        RetrievalModule.load_from_checkpoint(tmp_path / "newer.ckpt")
    del content["hyper_parameters"]["objective"]["focus"]
    content["hyper_parameters"]["diffusion"] = {}
    torch.save(content, tmp_path / "newer.ckpt")
    with pytest.raises(SettingsError, match=r"has the settings \['diffusion'\], which RetrievalModule does not know"):
        RetrievalModule.load_from_checkpoint(tmp_path / "newer.ckpt")
    settings = json.loads((OLDER / "exported" / "config.json").read_text())
    settings["model"]["image"]["rotations"] = 4
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(SettingsError, match=r"newer/config\.json': these are no settings of EncoderConfig .*rotations"):
        Retriever.from_pretrained(str(tmp_path / "newer"))


@pytest.mark.parametrize("name", ["rsicd-lite", "rsicd-tiny"])
def test_a_published_model_is_by_todays_names(name: str) -> None:
    settings = json.loads((PUBLISHED / name / "config.json").read_text())
    assert settings.keys() == {"encoder", "hubness", "image_size", "max_words"}
    assert current_model_settings({"encoder": settings["encoder"]})["encoder"] == settings["encoder"]
