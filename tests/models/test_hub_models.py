"""Models pushed to a stand-in for the hub and loaded from there; what goes wrong; the cards of models."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import ModelCard

sys.path[:0] = [str(Path(__file__).parents[1])]
from model_hub import TOKEN, model_hub  # noqa: E402
from pairs import write_entry  # noqa: E402
from tiny import small_run  # noqa: E402

from rsretrieval import Retriever, cli  # noqa: E402
from rsretrieval.models.export import export  # noqa: E402
from rsretrieval.models.written_card import MARK, is_own  # noqa: E402
from rsretrieval.records.queries import KEY, account_of, query_file  # noqa: E402

BEFORE = """
import json, os, sys, warnings
from pathlib import Path
from PIL import Image
from rsretrieval import Retriever, cli
given = json.loads(sys.argv[1])
def account(retriever):
    pictures = [Image.linear_gradient("L").convert("RGB"), Image.new("RGB", (90, 40), "green")]
    texts = ["two ships in the harbour", "a red plane"]
    return [retriever.digest, retriever.encode_images(pictures).tolist(), retriever.encode_texts(texts).tolist()]
"""
PUSH = """
from huggingface_hub import ModelCard
folder = Path(given["folder"])
retriever = Retriever.from_pretrained(str(folder))
pushed = [retriever.push_to_hub("acme/ponds", message="first")]
card = ModelCard.load(folder / "README.md")
card.validate()
wrong = ModelCard(str(card).replace("apache-2.0", "no-licence"))
try:
    wrong.validate()
except ValueError as error:
    refused = str(error)
pushed.append(retriever.push_to_hub("acme/ponds"))  # nothing has changed
pushed.append(retriever.push_to_hub("acme/ponds", int8=True, message="in eight bits"))
sys.argv = ["rsretrieval"]
cli.main(["export", str(folder), "--push", "acme/own", "--private", "true"])
print(json.dumps([account(retriever), pushed, refused]))
"""
LOAD = """
def failed(name):
    try:
        Retriever.from_pretrained(name)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
loaded = [account(Retriever.from_pretrained(name)) for name in given["names"]]
print(json.dumps([*loaded, *map(failed, given["wrong"])]))
"""
FAIL = """
from rsretrieval.models.hub import push_folder
def said(token, repository, **options):
    os.environ["HF_TOKEN"] = token
    try:
        push_folder(Path(given["folder"]), repository, **options)
    except Exception as error:
        assert error.__context__ is None or error.__suppress_context__
        return f"{type(error).__name__}: {error}"
    return "pushed"
print(json.dumps([said(*arguments, **options) for *arguments, options in given["cases"]]))
"""


def child(code: str, environment: dict[str, str], **given: Any) -> Any:
    """What a fresh process prints last, as JSON."""
    command = [sys.executable, "-c", BEFORE + code, json.dumps(given)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pair with random weights, exported with all its tensors and a licence."""
    place = tmp_path_factory.mktemp("exported")
    export(write_entry(place), str(place / "ponds"), licence="apache-2.0")
    return place / "ponds"


def test_a_model_goes_to_the_hub_and_comes_back(folder: Path, tmp_path: Path) -> None:
    with model_hub(tmp_path / "pusher") as (hub, environment):
        own, pushed, refused = child(PUSH, environment | {"HF_TOKEN": TOKEN}, folder=str(folder))
        repository = hub.repositories["acme/ponds"]
        assert [one.message for one in repository.commits] == ["initial commit", "first", "in eight bits"]
        first, second = (one.oid for one in repository.commits[1:])
        assert [commit for _, commit in pushed] == [first, first, second]
        assert {url for url, _ in pushed} == {f"{environment['HF_ENDPOINT']}/acme/ponds"}
        files = repository.commits[1].files
        assert set(files) == {".gitattributes", "README.md", "config.json", "model.safetensors", "towers/pair.json"}
        card, exported = files["README.md"].decode(), (folder / "README.md").read_text()
        assert 'from_pretrained("acme/ponds")' in card  # the card of the folder, under the name on the hub
        assert "\n# acme/ponds\n" in card
        assert card.splitlines()[-8:-1] == exported.splitlines()[-8:-1]
        assert len(repository.commits[2].files["model.safetensors"]) < 0.7 * len(files["model.safetensors"])
        assert "license" in refused
        assert hub.repositories["acme/own"].private
        assert not repository.private

        anyone = environment | {"HF_HOME": str(tmp_path / "loader")}
        names, wrong = [f"acme/ponds@{first}", "acme/ponds"], ["acme/own", "acme/ponds@none"]
        by_commit, newest, *failed = child(LOAD, anyone, names=names, wrong=wrong)
        assert by_commit == own  # its digest, the embeddings of pictures and of texts
        assert newest[0] != own[0]
        assert newest[1] == [pytest.approx(row, abs=0.05) for row in own[1]]
        assert any(request.startswith("GET /cdn/") for request in hub.requests)
    for name, message in zip(wrong, failed, strict=True):  # of which the first is private
        assert message.startswith(f"PretrainedError: the hub's model '{name}' cannot be fetched (")


@pytest.mark.slow
def test_what_goes_wrong_is_said(folder: Path, tmp_path: Path) -> None:
    foreign = "hf_zyxwvutsrqponmlkjihgfedcba98765432"
    with model_hub(tmp_path / "home") as (hub, environment):
        cases: list[list[Any]] = [
            ["", "acme/ponds", {}], [foreign, "acme/ponds", {}], [TOKEN, "other/ponds", {}], [TOKEN, "acme/po nds", {}],
            [TOKEN, "acme/ponds", {}], [TOKEN, "acme/ponds", {"private": True}],
        ]  # fmt: skip
        nobody, unknown, no_right, no_name, pushed, public = child(FAIL, environment, folder=str(folder), cases=cases)
        commits = len(hub.repositories["acme/ponds"].commits)
    start = "HubError: 'acme/ponds' cannot be pushed: "
    for message in (nobody, unknown):
        assert message.startswith(f"{start}no token was given, or one that the hub does not know: run `hf auth login`")
    assert no_right.startswith("HubError: 'other/ponds' cannot be pushed: your token may not write to what belongs to")
    assert no_name.startswith("HubError: 'acme/po nds' cannot be pushed: give its name as OWNER/NAME")
    assert pushed == "pushed"
    assert public.startswith("HubError: 'acme/ponds' is there and public")
    assert commits == 2
    address = environment["HF_ENDPOINT"].replace("http://", "http://me:my-password@")
    gone = environment | {"HF_ENDPOINT": address}  # nothing listens there now
    (offline,) = child(FAIL, gone, folder=str(folder), cases=[[TOKEN, "acme/ponds", {}]])
    assert offline.startswith(f"{start}the hub cannot be reached: check the connection, HF_ENDPOINT")
    for message in (nobody, unknown, no_right, no_name, public, offline):
        assert not any(secret in message for secret in (TOKEN, foreign, "my-password"))


@pytest.mark.slow
def test_a_card_on_the_hub_that_a_person_edited_stays(folder: Path, tmp_path: Path) -> None:
    with model_hub(tmp_path / "home") as (hub, environment):
        environment["HF_TOKEN"] = TOKEN
        case = [TOKEN, "acme/ponds", {}]
        child(FAIL, environment, folder=str(folder), cases=[case])
        newest = hub.repositories["acme/ponds"].commits[-1]
        newest.files |= {"README.md": b"# By hand\n", "towers/gone.json": b"{}", "notes.txt": b"mine"}
        (changed := tmp_path / "changed").mkdir()
        for file in folder.rglob("*.*"):
            target = changed / file.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes())
        (changed / "private.parquet").touch()
        (changed / "config.json").write_text((folder / "config.json").read_text() + "\n")
        assert child(FAIL, environment, folder=str(changed), cases=[case]) == ["pushed"]
        files = hub.repositories["acme/ponds"].commits[-1].files
    assert files["README.md"] == b"# By hand\n"
    assert files["config.json"] == (changed / "config.json").read_bytes()
    assert "notes.txt" in files
    assert not {"towers/gone.json", "private.parquet"} & set(files)


def settings(folder: Path) -> Path:
    """A run of two epochs of two batches on the embedded scenes."""
    content = {"seed_everything": 3, **small_run(folder, 2), "report": {"queries": 0}}
    content["model"]["hubness"] = {"method": "dual_softmax"}
    content["schedule"] = {"stages": [{"from_epoch": 0, "losses": {"contrastive": 1}}]}
    (folder / "small.yaml").write_text(yaml.safe_dump(content))
    return folder / "small.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder, its best checkpoint tested."""
    folder = tmp_path_factory.mktemp("trained")
    config, root = str(settings(folder)), f"--trainer.default_root_dir={folder / 'run'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["rsretrieval"])
        cli.main(["fit", "-c", config, root])
        cli.main(["test", "-c", config, root, "--ckpt_path=best", "--trainer.limit_test_batches=3"])
    return folder / "run"


def logged(file: Path, name: str) -> list[float]:
    with file.open() as lines:
        return [float(row[name]) for row in csv.DictReader(lines) if row.get(name)]


def figures(card: ModelCard) -> dict[str, dict[str, float]]:
    """Split to name of a figure to its value, as the hub reads them."""
    found: dict[str, dict[str, float]] = {}
    for result in card.data.to_dict()["model-index"][0]["results"]:  # type: ignore[no-untyped-call]
        for metric in result["metrics"]:
            found.setdefault(result["dataset"]["split"], {})[metric["name"]] = metric["value"]
    return found


NAMES = {
    **{f"image to text R@{k}": f"i2t_R@{k}" for k in (1, 5, 10)},
    **{f"text to image R@{k}": f"t2i_R@{k}" for k in (1, 5, 10)},
    "mean recall (mR)": "mR",
}


def test_the_card_has_the_figures_of_the_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(str(run / "checkpoints" / "best.ckpt"), str(tmp_path / "ponds"))
    card = ModelCard.load(tmp_path / "ponds" / "README.md")
    assert (card.data.library_name, card.data.datasets, card.data.license) == ("rsretrieval", ["synthetic"], None)
    training, testing = sorted(run.rglob("metrics.csv"))
    epochs = logged(training, "val/mR")
    best = max(range(2), key=lambda epoch: epochs[epoch])
    found = figures(card)
    assert found["validation"] == {title: logged(training, f"val/{name}")[best] for title, name in NAMES.items()}
    assert found["test"] == {title: logged(testing, f"test/{name}")[-1] for title, name in NAMES.items()}
    names = [*NAMES.values(), *(f"{way}_{kind}@10" for way in ("i2t", "t2i") for kind in ("mAP", "nDCG"))]
    values = " | ".join(f"{logged(testing, f'test/{name}')[-1]:.2f}" for name in names)
    assert f"| synthetic: test | {values} | `{testing.relative_to(run)}` |" in card.text
    corrected = f"{logged(testing, 'test_hubness_corrected/mR')[-1]:.2f}"
    row = next(line for line in card.text.splitlines() if "test, corrected for hubs" in line)
    assert row.split(" | ")[7] == corrected
    assert "- test: every caption a query; 192 images and " in card.text
    assert f"Epoch {best} (from 0) was chosen by `val/mR`, on the validation split" in card.text
    assert f"{best + 1} of 2 epochs, {2 * (best + 1)} steps, seed 3." in card.text
    assert "From epoch 0: 1 * contrastive." in card.text
    assert str(tmp_path) not in (text := card.content + (tmp_path / "ponds" / "training.yaml").read_text())
    assert str(run.parent) not in text
    # By what is beside the card it trains again, to the same weights.
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    tower = f"--model.encoder.text.name={run.parent}"
    recipe = [
        "-c",
        str(tmp_path / "ponds" / "training.yaml"),
        tower,
        f"--trainer.default_root_dir={tmp_path / 'again'}",
    ]
    cli.main(["fit", *recipe])
    assert logged(next((tmp_path / "again").rglob("metrics.csv")), "val/mR") == epochs


def test_what_is_not_known_is_said(run: Path, tmp_path: Path) -> None:
    def text_of(checkpoint: Path) -> str:
        export(str(checkpoint), str(tmp_path / "to"))
        return (tmp_path / "to" / "README.md").read_text()

    last = text_of(run / "checkpoints" / "last.ckpt")
    assert "No figures of `rsretrieval test`: the last ones are of best.ckpt, not of last.ckpt." in last
    assert "state after epoch 1 (from 0); no split is known to have chosen it" in last
    (tmp_path / "alone.ckpt").write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
    alone = text_of(tmp_path / "alone.ckpt")
    assert "No figures and no configuration: no folder of a run with config.yaml is around the checkpoint." in alone
    assert "model-index" not in alone
    assert "It is not known how well it works on any data." in alone
    (other := tmp_path / "other").mkdir()
    (other / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    training = min(run.rglob("metrics.csv"))
    export(str(run / "checkpoints" / "best.ckpt"), str(tmp_path / "smaller"), image_size=48)
    smaller = (tmp_path / "smaller" / "README.md").read_text()
    assert "The figures were measured with pictures of 64 by 64 pixels and 30 words." in smaller
    assert "The figures were measured with pictures" not in last
    (other / "best.ckpt").write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
    lines = training.read_text()
    (other / "metrics.csv").write_text(lines)
    assert "No test figures: `rsretrieval test` was not run in the run's folder." in text_of(other / "best.ckpt")
    for value in {f"{value}" for value in logged(training, "val/mR")}:
        lines = lines.replace(value, "99.0")
    (other / "metrics.csv").write_text(lines)
    assert "the log in the run's folder is of another training than this checkpoint" in text_of(other / "best.ckpt")


def test_of_which_data_figures_are(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    file = query_file(tmp_path / "run", "test")
    table = pq.read_table(file)
    account = account_of(table.schema.metadata)
    assert account is not None

    def text_with(account: dict[str, Any]) -> str:
        pq.write_table(table.replace_schema_metadata({KEY: json.dumps(account)}), file)
        export(str(tmp_path / "run" / "checkpoints" / "best.ckpt"), str(tmp_path / "to"))
        return (tmp_path / "to" / "README.md").read_text()

    other = text_with(account | {"data": ["parquet", "/home/me/ponds"]})
    assert "\n| ponds: test | " in other
    assert "datasets:\n- synthetic\n- ponds\n" in other
    assert "evaluated on ponds, synthetic alone" in other
    assert "/home/me" not in other
    older = text_with({name: value for name, value in account.items() if name != "data"})
    assert "queries-test.parquet of an older version does not say of which data." in older
    assert "\n| ponds: test" not in older
    file.unlink()
    export(str(tmp_path / "run" / "checkpoints" / "best.ckpt"), str(tmp_path / "to"))
    assert (
        "without queries-test.parquet it is not known which checkpoint" in (tmp_path / "to" / "README.md").read_text()
    )


def test_a_card_that_a_person_wrote_stays(folder: Path, run: Path, tmp_path: Path) -> None:
    checkpoint, card = str(run / "checkpoints" / "best.ckpt"), tmp_path / "to" / "README.md"
    export(checkpoint, str(tmp_path / "to"))
    assert is_own(card)
    export(checkpoint, str(tmp_path / "to"), licence="mit")  # over its own
    assert "license: mit\n" in card.read_text()
    edited = card.read_text().replace("## Figures", "A model of ponds.\n\n## Figures")
    card.write_text(edited)
    assert MARK in edited
    assert not is_own(card)
    export(checkpoint, str(tmp_path / "to"))
    assert card.read_text() == edited
    with pytest.raises(ValueError, match=r"a person wrote the card.*write the licence there"):
        export(checkpoint, str(tmp_path / "to"), licence="mit")
    export(str(tmp_path / "to"), str(tmp_path / "copy"))  # which the copy comes with, and its recipe
    assert (tmp_path / "copy" / "README.md").read_text() == edited
    assert (tmp_path / "copy" / "training.yaml").is_file()
    exported = (folder / "README.md").read_text()
    assert "No figures: the model was not exported from a checkpoint of a run." in exported
    assert "Every tensor is in the folder." in exported


def test_a_card_that_was_written_follows_its_model(run: Path, folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    export(str(run / "checkpoints" / "best.ckpt"), str(first))
    written = (first / "README.md").read_text()
    export(str(first), str(second), image_size=96, licence="mit")
    text = (second / "README.md").read_text()
    figures = [line for line in written.splitlines() if line.startswith("| ")]
    assert figures
    assert [line for line in text.splitlines() if line.startswith("| ")] == figures
    assert 'from_pretrained("./second")' in text
    assert "brought to 96 by 96 pixels" in text
    assert "- The figures were measured with pictures of 64 by 64 pixels." in text
    assert "license: mit\n" in text
    assert "- Licence: mit." in text
    assert is_own(second / "README.md")
    assert (second / "training.yaml").read_text() == (first / "training.yaml").read_text()
    export(str(second), str(second), int8=True)  # in place: nothing of it is lost
    assert figures == [line for line in (second / "README.md").read_text().splitlines() if line.startswith("| ")]
    export(str(folder), str(second))  # another model
    assert not (second / "training.yaml").exists()
    assert "No figures" in (second / "README.md").read_text()


def test_wrong_ways_to_give_a_model_away(folder: Path) -> None:
    retriever = Retriever.from_pretrained(str(folder), scale="percentile 2 98")
    with pytest.raises(ValueError, match="scale or bands of its own"):
        retriever.push_to_hub("acme/ponds")
    with pytest.raises(ValueError, match=r"--to FOLDER.*--push OWNER/NAME"):
        export(str(folder))
    with pytest.raises(ValueError, match="private"):
        export(str(folder), "somewhere", private=True)
