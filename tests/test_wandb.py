"""What reaches W&B, read back from offline runs value by value; and that a run goes on in its own."""

import csv
import json
import logging
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import wandb
import yaml
from lightning import Callback
from lightning_utilities.core.imports import RequirementCache
from PIL import Image

from rsretrieval import TowerConfig, cli
from rsretrieval.cli.loggers import LoggerPackageError
from rsretrieval.data import Columns, DataError, register_dataset
from rsretrieval.data.datasets.synthetic.source import SyntheticSource
from rsretrieval.metrics import retrieval_recall
from rsretrieval.models.digest import digest_of
from rsretrieval.redaction import redacted
from rsretrieval.training import OptimizerConfig, RetrievalModule, callbacks
from rsretrieval.training.callbacks import TrainingFigures
from rsretrieval.training.callbacks import figures as figures_module
from rsretrieval.training.callbacks.tracking import result_tables
from rsretrieval.training.optimizer import adamw
from rsretrieval.training.results import Answer, answers, first_places
from rsretrieval.training.scene_figures import scene_figures
from rsretrieval.training.wandb_run import WRITES_EVERY, WandbRunError

sys.path.insert(0, str(Path(__file__).parent))
import tiny
from made_up import split
from wandb_records import by_step, config, history, records, run_files

TOKENS = {"HF_TOKEN": "hf_plantedPlanted01", "SOME_SECRET": "c0rrect-horse-battery"}
PASSWORD, SIGNATURE = "pa55-of-the-url", "5igned-by-nobody"
PATH = f"https://me:{PASSWORD}@example.org/scenes?X-Amz-Signature={SIGNATURE}"
OF_TIME = {"speed/pairs_per_second", "speed/waiting_for_data"}
OF_EPOCH = {"data/skipped", "time/epoch", "memory/peak_GB"}


@register_dataset("scenes of a URL")
class ScenesOfUrl(SyntheticSource):
    """The embedded scenes, wherever they are said to be."""

    def __init__(self, path: str, columns: Columns) -> None:
        super().__init__("", columns)
        self.revision = "revision 7"


def disk_goes_at(batch: int) -> Any:
    """A hook that raises before a batch."""

    def hook(self: Callback, trainer: Any, pl_module: Any, content: Any, batch_idx: int) -> None:
        if batch_idx == batch:
            raise OSError("the disk is gone")

    return hook


def arguments(folder: Path, *more: str) -> list[str]:
    """A small run on the embedded scenes: two stages of two batches, validated on one batch."""
    folder.mkdir(parents=True, exist_ok=True)
    tower = {"library": "timm", "name": "test_vit", "options": {"embed_dim": 16, "depth": 1, "num_heads": 2}}
    settings = {
        "trainer": {
            "accelerator": "cpu", "max_epochs": 2, "limit_train_batches": 2, "limit_val_batches": 1,
            "log_every_n_steps": 1, "default_root_dir": str(folder / "run"), "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        "data": {"source": "synthetic", "image_size": 64, "batch_size": 4, "num_workers": 0, "augmentation": "none"},
        "model": {
            "encoder": {
                "image": {"weights": None, **tower}, "convolutional_branch": None, "embed_dim": 16,
                "text": {"library": "transformers", "name": tiny.write_bert(folder), "weights": None},
            },
            "optimizer": {"learning_rate": 1.0e-3, "tower_factor": 0.1},
        },
        "schedule": {"stages": [
            {"from_epoch": 0, "losses": {"contrastive": 1, "affiliation": 0.5}},
            {"from_epoch": 1, "losses": {"triplet": 2}},
        ]},
        "report": {"queries": 2}, "tracking": {"queries": 3},
    }  # fmt: skip
    (folder / "small.yaml").write_text(yaml.safe_dump(settings))
    return ["fit", "-c", "logger/wandb", "-c", str(folder / "small.yaml"), *more]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with the best checkpoint sent, and secrets wherever a user might leave one."""
    folder = tmp_path_factory.mktemp("tracked")
    args = arguments(folder, "--data.source=scenes of a URL", f"--data.path={PATH}", "--tracking.artifact=true")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**TOKENS, "WANDB_MODE": "offline", "RSRETRIEVAL_CACHE": str(folder / "cache")}.items():
            patch.setenv(name, value)
        patch.setenv("WANDB_DATA_DIR", str(folder / "staging"))  # else in the user's home
        patch.setattr("sys.argv", ["rsretrieval", *args, TOKENS["HF_TOKEN"]])
        cli.main(args)
        assert sys.argv[-1] == TOKENS["HF_TOKEN"]
    assert wandb.run is None  # another run may begin in this process
    return folder / "run"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("sys.argv", ["rsretrieval"])


def only(files: list[Path]) -> Path:
    (file,) = files
    return file


def csv_rows(folder: Path) -> list[dict[str, float]]:
    with only(sorted(folder.rglob("metrics.csv"))).open() as lines:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(lines)]


def scalars(file: Path) -> dict[tuple[int, str], float]:
    """Step and name to value, without pictures and tables."""
    rows = [row for row in history(file) if not any(name.endswith("._type") for name in row)]
    return by_step(rows, "trainer/global_step")


def test_csv_and_wandb_have_the_same_figures(run: Path) -> None:
    assert scalars(only(run_files(run))) == pytest.approx(by_step(csv_rows(run), "step"))


def test_every_figure_is_there(run: Path) -> None:
    values = scalars(only(run_files(run)))
    of_all_steps = {
        "stage", "train/loss", "weight/contrastive", "weight/affiliation", "weight/triplet", "gradient_norm",
        "learning_rate/x1", "learning_rate/x0.1", "temperature/contrastive", "temperature/affiliation", *OF_TIME,
    }  # fmt: skip
    of_stages = {0: {"train/contrastive", "train/affiliation"}, 1: {"train/triplet"}}
    recall = {f"val/{way}_R@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)} | {"val/mR", "val/skipped"}
    for step in range(4):
        wanted = of_all_steps | of_stages[step // 2]
        wanted |= recall | OF_EPOCH if step % 2 else {"stage/begins"}
        assert {name for number, name in values if number == step} == wanted
    column = {name: [values.get((step, name)) for step in range(4)] for _, name in values}
    assert column["stage"] == [1, 1, 2, 2]
    assert column["stage/begins"] == [1, None, 2, None]
    assert column["weight/affiliation"] == [0.5, 0.5, 0, 0]
    assert column["weight/triplet"] == [0, 0, 2, 2]
    assert column["learning_rate/x1"] == pytest.approx([1e-3, 1e-3, 2e-3 / 3, 1e-3 / 3])  # warm-up of one step
    assert column["learning_rate/x0.1"] == pytest.approx([1e-4, 1e-4, 2e-4 / 3, 1e-4 / 3])
    assert column["temperature/contrastive"][0] == pytest.approx(0.07)
    assert len({*column["temperature/contrastive"]}) > 1
    for step in (0, 1):
        parts = values[step, "train/contrastive"] + 0.5 * values[step, "train/affiliation"]
        assert values[step, "train/loss"] == pytest.approx(parts)
    assert values[2, "train/loss"] == pytest.approx(2 * values[2, "train/triplet"])
    for step in (1, 3):
        six = [values[step, name] for name in recall - {"val/mR", "val/skipped"}]
        assert values[step, "val/mR"] == pytest.approx(sum(six) / 6)
    assert all(norm > 0 and math.isfinite(norm) for norm in column["gradient_norm"])
    assert all(0 < share < 1 for share in column["speed/waiting_for_data"])


def test_the_summary_is_the_best(run: Path) -> None:
    file = only(run_files(run))
    values = scalars(file)
    kept = [record.summary for record in records(file) if record.WhichOneof("record_type") == "summary"]
    last = [json.loads(item.value_json) for part in kept for item in part.update if list(item.nested_key) == ["val/mR"]]
    assert last[-1] == {"max": pytest.approx(max(values[1, "val/mR"], values[3, "val/mR"]))}


def test_the_configuration_is_flat_and_typed(run: Path) -> None:
    settings = config(only(run_files(run)))
    rate = settings["model.optimizer.learning_rate"]
    assert (type(rate), rate) == (float, 0.001)
    assert (type(settings["trainer.max_epochs"]), settings["trainer.max_epochs"]) == (int, 2)
    assert settings["data.shuffle"] is True
    assert settings["model.encoder.convolutional_branch"] is None
    assert settings["schedule.stages"][1] == {"from_epoch": 1, "losses": {"triplet": 2.0}}
    assert not any(isinstance(value, dict) and value for value in settings.values())
    groups = {name.partition(".")[0] for name in settings}
    assert groups >= {"model", "data", "trainer", "schedule", "run"}
    assert not groups & {"config", "encoder", "objective"}  # nothing is there twice
    assert settings["run.data_revision"] == "revision 7"
    assert len(settings["run.model_digest"]) == 32


def test_the_digest_is_of_the_model_as_training_began(run: Path) -> None:
    module = RetrievalModule.load_from_checkpoint(run / "checkpoints" / "last.ckpt")
    trained = digest_of(module.model, 64, 30)
    assert config(only(run_files(run)))["run.model_digest"] not in (trained, None)
    hparams = yaml.safe_load(only(sorted(run.rglob("hparams.yaml"))).read_text())
    assert hparams["run"]["model_digest"] == config(only(run_files(run)))["run.model_digest"]


def artifacts(run: Path) -> list[Any]:
    file = only(run_files(run))
    return [record.artifact for record in records(file) if record.WhichOneof("record_type") == "artifact"]


def table(run: Path, key: str) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of a table that was logged once, from what is to be sent."""
    assert len([row for row in history(only(run_files(run))) if f"{key}.path" in row]) == 1
    files = [file for artifact in artifacts(run) for file in artifact.manifest.contents]
    (content,) = [json.loads(Path(file.local_path).read_text()) for file in files if file.path == f"{key}.table.json"]
    return content["columns"], content["data"]


def test_tables_of_queries(run: Path) -> None:
    places = [f"{kind} {place}" for place in range(1, 6) for kind in ("result", "right")]
    columns, rows = table(run, "val/text_queries")
    assert columns == ["query", "file", "own image", *places]
    assert len(rows) == 3
    for row in rows:
        assert isinstance(row[0], str)
        assert [cell["_type"] for cell in [row[2], *row[3::2]]] == ["image-file"] * 6
        own = [cell["sha256"] == row[2]["sha256"] for cell in row[3::2]]
        assert row[4::2] == own  # every image of the scenes differs, and a caption is of one
    columns, rows = table(run, "val/image_queries")
    assert columns == ["file", "query", *places]
    assert all(isinstance(cell, str) for row in rows for cell in row[2::2])
    assert {type(cell) for row in rows for cell in row[3::2]} == {bool}


def test_recall_by_scene_adds_up(run: Path) -> None:
    columns, rows = table(run, "val/scenes")
    values = scalars(only(run_files(run)))
    assert columns == ["scene", "images", *(f"{way}_R@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)), "mR"]
    images = [row[1] for row in rows]
    assert sum(images) == 64  # one batch
    for place, name in list(enumerate(columns))[2:5]:
        mean = sum(row[place] * count for row, count in zip(rows, images, strict=True)) / 64
        assert mean == pytest.approx(values[3, f"val/{name}"])


def test_pictures(run: Path) -> None:
    media = only(run_files(run)).parent / "files" / "media" / "images" / "val"
    (results,), (confusion,) = (sorted(media.glob(f"{name}_*.png")) for name in ("results", "scene_confusion"))
    assert results.read_bytes() == (run / "results-val.png").read_bytes()
    assert Image.open(confusion).size[0] > 100


def test_the_best_checkpoint_is_sent(run: Path) -> None:
    (model,) = [artifact for artifact in artifacts(run) if artifact.type == "model"]
    known = json.loads((run / "wandb_run.json").read_text())
    assert (model.name, sorted(model.aliases)) == (f"best-{known['id']}", ["best", "latest"])
    (content,) = model.manifest.contents
    assert content.path == "best.ckpt"
    assert content.size == (run / "checkpoints" / "best.ckpt").stat().st_size


def test_no_secret_is_written(run: Path) -> None:
    secrets = [secret.encode() for secret in (*TOKENS.values(), PASSWORD, SIGNATURE)]
    files = [file for folder in (run, run.parent / "staging") for file in folder.rglob("*") if file.is_file()]
    assert {"config.yaml", "hparams.yaml", "best.ckpt", "results-val.png"} <= {file.name for file in files}
    assert [file.name for file in files if any(secret in file.read_bytes() for secret in secrets)] == []
    hidden = "https://***@example.org/scenes?X-Amz-Signature=***"
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["path"] == hidden
    assert config(only(run_files(run)))["data.path"] == hidden


def test_what_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**TOKENS, "A_TOKEN": "short", "HF_HOME": "/data/hub-of-models"}.items():
        monkeypatch.setenv(name, value)
    assert redacted(f"a {TOKENS['HF_TOKEN']}, {TOKENS['SOME_SECRET']}") == "a ***, ***"
    assert redacted("short /data/hub-of-models a@b.org") == "short /data/hub-of-models a@b.org"
    record = logging.LogRecord("name", logging.INFO, "file", 1, "from %s", (PATH,), None)
    assert cli._without_secrets(record)
    assert record.getMessage() == "from https://***@example.org/scenes?X-Amz-Signature=***"


def test_an_error_tells_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise DataError(f"'{PATH}' cannot be read")

    monkeypatch.setattr(cli, "main", fails)
    monkeypatch.delenv("RSRETRIEVAL_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as end:
        cli.entry()
    assert "DataError: 'https://***@example.org/scenes?X-Amz-Signature=***' cannot be read" in str(end.value)


@pytest.mark.usefixtures("offline")
def test_a_run_that_dies_goes_on_in_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_epoch = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=6", "--report.queries=0"]
    args = arguments(tmp_path, *one_epoch, "--tracking.queries=0", "--resume.every_n_train_steps=3")
    with monkeypatch.context() as patch:
        patch.setattr(TrainingFigures, "on_train_batch_start", disk_goes_at(5))
        with pytest.raises(OSError, match="the disk is gone"):
            cli.main([*args, "--resume.save_on_exception=false"])
    run = tmp_path / "run"
    first = json.loads((run / "wandb_run.json").read_text())
    assert first["step"] == 4
    cli.main([*args, "--ckpt_path=last"])
    before, after = run_files(run)
    assert before.name == after.name == f"run-{first['id']}.wandb"
    values = by_step([*history(before), *history(after)], "trainer/global_step")
    assert [step for step, name in sorted(values) if name == "train/loss"] == list(range(6))
    assert (5, "val/mR") in values
    assert "run.model_digest" in config(before)
    assert "run.model_digest" not in config(after)  # the training began with that of the first part
    codes = [
        r.exit.exit_code for file in (before, after) for r in records(file) if r.WhichOneof("record_type") == "exit"
    ]
    assert codes == [1, 0]


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_new_fit_is_a_new_run_and_its_test_belongs_to_it(tmp_path: Path) -> None:
    args, run = arguments(tmp_path, "--report.queries=0", "--tracking.queries=0"), tmp_path / "run"
    cli.main(args)
    cli.main(args)
    first, second = run_files(run)
    assert first.name != second.name
    assert (run / "checkpoints-1").is_dir()
    assert scalars(first).keys() == scalars(second).keys()  # all steps anew
    cli.main(["fit", "-c", str(run / "config.yaml"), "--trainer.max_epochs=1"])  # which names no run
    third = run_files(run)[-1]
    assert third.name not in (first.name, second.name)
    cli.main(["test", *args[1:5], "--ckpt_path=best", "--trainer.limit_test_batches=1"])
    tested = run_files(run)[-1]
    assert tested.name == third.name
    assert {name for row in history(tested) for name in row} >= {"test/mR", "test/i2t_mAP@10", "test/scenes.nrows"}


def test_without_a_key_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = arguments(tmp_path)
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    with pytest.raises(WandbRunError, match=r"no key here: run `wandb login`.*WANDB_MODE=offline.*CSVLogger"):
        cli.main(args)
    wandb.teardown()
    assert not (tmp_path / "run" / "wandb").exists()


@pytest.mark.parametrize(("logger", "package"), [("MLFlowLogger", "mlflow"), ("TensorBoardLogger", "tensorboard")])
def test_a_logger_without_its_package(
    logger: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    older = RequirementCache("tensorboard>=99")  # what is installed for the tests counts as missing
    monkeypatch.setattr("lightning.fabric.loggers.tensorboard._TENSORBOARD_AVAILABLE", older)
    with pytest.raises(LoggerPackageError, match=rf"{logger}.*{package}.*or use --trainer.logger=CSVLogger"):
        cli.main(["fit", *arguments(tmp_path)[3:], f"--trainer.logger={logger}"])
    assert not (tmp_path / "run").exists()


def small_module() -> RetrievalModule:
    return tiny.module(
        TowerConfig("timm", "test_vit", options={"embed_dim": 16, "depth": 1, "num_heads": 2}),
        TowerConfig("open_clip", "text-small"), embed_dim=8, optimizer=OptimizerConfig(1e-3, tower_factor=0.25),
    )  # fmt: skip


def test_norm_and_rates_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    module, logged = small_module(), {}
    monkeypatch.setattr(module, "log_dict", logged.update)
    count = 0
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, 0.5)
            count += parameter.numel()
    optimizer, _ = adamw(module.parameter_groups(), module.optimizer, steps=10)
    TrainingFigures().on_before_optimizer_step(SimpleNamespace(), module, optimizer)
    assert float(logged["gradient_norm"]) == pytest.approx(0.5 * math.sqrt(count), rel=1e-5)
    rates = {name: value for name, value in logged.items() if name.startswith("learning_rate")}
    assert rates == pytest.approx({"learning_rate/x1": 1e-3, "learning_rate/x0.25": 2.5e-4})


def test_speed_leaves_validation_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 1.5 s, 0.5 s of it waiting; 100 s of validation after the first; the last two batches count."""
    clock, module = [0.0], small_module()
    logged: list[tuple[str, float]] = []
    monkeypatch.setattr(figures_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(figures_module, "EpochLoader", SimpleNamespace)
    monkeypatch.setattr(module, "log", lambda name, value: logged.append((name, value)))
    loader = SimpleNamespace(waited=7.0)
    trainer: Any = SimpleNamespace(log_every_n_steps=2, train_dataloader=loader, world_size=2)
    figures, batch = TrainingFigures(), SimpleNamespace(image_ids=range(30))
    figures.on_train_start(trainer, module)
    for number in range(3):
        clock[0], loader.waited = clock[0] + 1.5, loader.waited + 0.5
        figures.on_train_batch_end(trainer, module, None, batch, number)
        if not number:
            figures.on_validation_start(trainer, module)
            clock[0] += 100
            figures.on_validation_end(trainer, module)
    assert [value for name, value in logged if name == "speed/pairs_per_second"] == pytest.approx([40.0] * 3)
    assert [value for name, value in logged if name == "speed/waiting_for_data"] == pytest.approx([1 / 3] * 3)


def test_figures_of_scenes_are_those_of_a_loop() -> None:
    scenes = [1, 3, 3, 1, 3, 3, 1, 3, 3, 3, 1, 3]
    content, embeddings = split(12, scenes)
    found = scene_figures(content, embeddings, ks=(1, 3))
    assert found.names == ["scene 1", "scene 3"]
    assert found.images.tolist() == [4, 8]
    scores = (embeddings.image @ embeddings.text.T).tolist()
    hits: dict[tuple[int, str], list[float]] = {}
    confusion: Counter[tuple[int, int]] = Counter()
    for k in (1, 3):
        for row, scene in enumerate(scenes):
            best = sorted(range(24), key=lambda n: -scores[row][n])[:k]
            hits.setdefault((scene, f"i2t_R@{k}"), []).append(any(n // 2 == row for n in best))
        for caption in range(24):
            best = sorted(range(12), key=lambda n: -scores[n][caption])[:k]
            hits.setdefault((scenes[caption // 2], f"t2i_R@{k}"), []).append(caption // 2 in best)
            confusion[scenes[caption // 2], scenes[best[0]]] += k == 1
    for (scene, name), values in hits.items():
        assert float(found.recall[name][[1, 3].index(scene)]) == pytest.approx(100 * sum(values) / len(values))
    assert found.confusion.tolist() == [[confusion[a, b] for b in (1, 3)] for a in (1, 3)]
    whole = retrieval_recall(image=embeddings.image, text=embeddings.text, owners=embeddings.owners, ks=(1, 3))
    assert float((found.recall["t2i_R@3"] * torch.tensor([8, 16])).sum() / 24) == pytest.approx(whole["t2i_R@3"])


def test_answers_and_their_tables() -> None:
    content, embeddings = split(3, [0, 0, 0])
    rows = [[3.0, 2, 1, 0], [1, 2, 3, 0], [0, 9, 0, 0], [1, 0, 0, 0], [0, 0, 5, 0], [0, 4, 0, 0]]
    embeddings = embeddings._replace(image=torch.eye(4)[:3], text=torch.tensor(rows))
    by_text, by_image = answers(content, embeddings, 2)
    assert by_text == [
        Answer(10, "10 a", [(10, True), (11, False), (12, False)]),
        Answer(12, "12 a", [(12, True), (10, False), (11, False)]),
    ]
    assert [answer.text for answer in by_image] == [None, None]
    assert by_image[1].results[:2] == [("12 a", True), ("10 b", False)]
    stream: Any = SimpleNamespace(table=content, image=lambda row: Image.new("RGB", (9, 9), (row, 0, 0)))
    tables = result_tables(stream, embeddings, 2)
    columns, (first, _) = tables["text_queries"]
    assert first[:2] == ["10 a", "10.png"]
    assert [cell.getpixel((0, 0))[0] for cell in first if isinstance(cell, Image.Image)] == [10, 10, 11, 12]
    assert first[4::2] == [True, False, False, None, None]
    assert len(columns) == len(first) == 13


def test_worst_queries_and_their_places() -> None:
    """Image 11 has a text twice, which image 10 has too; ranks by a loop over distinct texts and over images."""
    content, embeddings = split(4, [0] * 4)
    rows = torch.tensor([0, 1, 1, 1, 2, 3, 4, 5])
    embeddings = embeddings._replace(text=embeddings.text[:6], caption_rows=rows)
    content.captions[11] = [content.captions[10][1]] * 2
    scores = (embeddings.image @ embeddings.text.T).tolist()
    own = {0: {0, 1}, 1: {1}, 2: {2, 3}, 3: {4, 5}}
    by_text, by_image = first_places(embeddings)
    for image in range(4):
        best = max(scores[image][text] for text in own[image])
        assert by_image[image] == 1 + sum(score > best for score in scores[image])
    for text in range(6):
        best = max(scores[image][text] for image in own if text in own[image])
        assert by_text[text] == 1 + sum(row[text] > best for row in scores)
    worst_texts, worst_images = answers(content, embeddings, 2, worst=True)
    assert [answer.place for answer in worst_texts] == sorted(by_text.tolist(), reverse=True)[:2]
    assert [answer.place for answer in worst_images] == sorted(by_image.tolist(), reverse=True)[:2]
    assert worst_images[0].row == 10 + int(by_image.argmax())
    one, other = torch.eye(2), torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    tied = embeddings._replace(image=one, text=other, caption_rows=torch.tensor([0, 1]), owners=torch.tensor([0, 1]))
    assert first_places(tied)[0].tolist() == [1.5, 1.5]  # one of two that tie


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tracking.queries=-1: give 0 or more"):
        callbacks.Tracking(-1)


@pytest.mark.slow
def test_killed_and_resumed_under_two_processes(tmp_path: Path) -> None:
    """One W&B run of two processes, killed in mid-epoch; the rest follows in the same, no step twice and none lost."""
    # The service of W&B that another test began in this process would outlive the killed one, and hold its run.
    env = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    env |= {"WANDB_MODE": "offline", "PYTHONPATH": str(Path(__file__).parent)}
    ddp = ["--trainer.strategy=ddp", "--trainer.devices=2", "--report.queries=0"]
    args = arguments(
        tmp_path, *ddp, "--trainer.max_epochs=1", "--trainer.limit_train_batches=6", "--resume.every_n_train_steps=2"
    )
    script = tmp_path / "killed.py"  # a file, so that the second process can run it too
    lines = (
        "import os, sys, time, kill_after",
        "kill = os.kill",
        f"os.kill = lambda *given: (time.sleep({3 * WRITES_EVERY}), kill(*given))",
        "kill_after.main(4 if 'LOCAL_RANK' not in os.environ else 99, sys.argv[1:])",
    )
    script.write_text("\n".join(lines))
    dead = subprocess.run([sys.executable, str(script), *args], env=env, check=False)
    assert dead.returncode == -signal.SIGKILL
    command = [sys.executable, "-m", "rsretrieval", *args, "--ckpt_path=last"]
    subprocess.run(command, env=env, check=True)
    before, after = run_files(tmp_path / "run", patience=2)
    assert before.name == after.name
    values = by_step([*history(before), *history(after)], "trainer/global_step")
    # That of step 3 dies with the process, whose checkpoint is of its end.
    assert [step for step, name in sorted(values) if name == "train/loss"] == [0, 1, 2, 4, 5]
    assert (5, "val/mR") in values
