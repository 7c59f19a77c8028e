"""A checkpoint as a folder, loaded by path and by hub id; and the published model against its own figure."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import timm
import torch
from lightning import Trainer
from local_hub import local_hub
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel

import rsretrieval
from rsretrieval import RetrievalDataModule, RetrievalModule, Retriever, TowerConfig, cli
from rsretrieval.metrics import HubnessConfig, retrieval_recall
from rsretrieval.models.exported import PretrainedError
from rsretrieval.models.packing import pack, unpack
from rsretrieval.models.pretrained import PUBLISHED

sys.path.insert(0, str(Path(__file__).parent))
import tiny

VALIDATION = Path(__file__).parents[2] / "shared" / "data" / "rsicd"

HUBNESS = HubnessConfig("dual_softmax", temperature=0.2, queries="bank")


@pytest.fixture
def packages(tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installed packages with weights: ``pond_resnet`` and ``pond_bert``."""
    site = tmp_path / "site"
    (site / "pond_resnet").mkdir(parents=True)
    torch.save(timm.create_model("test_resnet").state_dict(), site / "pond_resnet" / "weights.pth")
    shutil.copytree(tiny_bert, site / "pond_bert")
    AutoModel.from_config(AutoConfig.from_pretrained(tiny_bert)).save_pretrained(site / "pond_bert")
    for package in site.iterdir():
        (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(site)
    return site


@pytest.fixture
def trained(tmp_path: Path, packages: Path) -> tuple[RetrievalModule, str]:
    """A module after two steps, its image tower frozen, both with weights from packages; and its checkpoint."""
    image = TowerConfig("timm", "test_resnet", "package:pond_resnet", frozen=True)
    text = TowerConfig("transformers", "bert", "package:pond_bert")
    module = tiny.module(image, text, query_bank=64, hubness=HUBNESS)
    data = RetrievalDataModule(image_size=64, batch_size=16, num_workers=0, augmentation="none")
    trainer = Trainer(
        max_epochs=1, limit_train_batches=2, limit_val_batches=0, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    return module, str(tmp_path / "model.ckpt")


PICTURES = [Image.effect_noise((90, 70), 90), Image.new("RGB", (64, 64), "green"), Image.new("RGBA", (10, 10), "blue")]
TEXTS = ["Two Ships, in the harbour!", "a red plane"]


def test_a_folder_gives_the_embeddings_of_its_checkpoint(
    trained: tuple[RetrievalModule, str], tmp_path: Path, packages: Path
) -> None:
    module, checkpoint = trained
    cli.main(["export", checkpoint, "--to", str(tmp_path / "acme" / "ponds")])
    retriever = Retriever.from_pretrained(str(tmp_path / "acme" / "ponds"))
    images, texts = retriever.encode_images(PICTURES, batch_size=2), retriever.encode_texts(TEXTS)
    assert images.shape == (3, 32)
    assert images.dtype == texts.dtype == torch.float32
    torch.testing.assert_close(images.norm(dim=1), torch.ones(3))
    model = module.model.eval()
    with torch.no_grad():
        green = torch.full((1, 3, 64, 64), 0.0)
        green[:, 1] = 128 / 255
        torch.testing.assert_close(images[1:2], model.encode_image(green), atol=2e-3, rtol=0)
        expected = model.encode_text(["two ships in the harbour", "a red plane"])
        torch.testing.assert_close(texts, expected, atol=2e-3, rtol=0)
    for encode in (retriever.encode_images, retriever.encode_texts, retriever.encode_squares):
        assert encode([]).shape == (0, 32)
    again = retriever.encode_texts([TEXTS[0], *TEXTS, "a plane beside two ships"], batch_size=2)
    assert again[0].equal(again[1])  # whatever else was encoded beside them
    torch.testing.assert_close(again[1:3], texts)
    with pytest.raises(ValueError, match=r"sentence 1 \('\.\.\.'\) has no word"):
        retriever.encode_texts(["a", "..."])
    stored = load_file(tmp_path / "acme" / "ponds" / "model.safetensors")
    assert not any(key.startswith("image_tower") for key in stored)  # its weights are in a package of their own
    assert {key for key, tensor in stored.items() if tensor.dtype != torch.float16} == {"bank.total"}  # a count
    # Other weights in that package are noticed.
    file = packages / "pond_resnet" / "weights.pth"
    state = torch.load(file, weights_only=True)
    torch.save({key: value + 1 for key, value in state.items()}, file)
    with pytest.raises(PretrainedError, match="are not the model that was published"):
        Retriever.from_pretrained(str(tmp_path / "acme" / "ponds"))


def test_eight_bits_are_half_the_size(trained: tuple[RetrievalModule, str], tmp_path: Path) -> None:
    for folder, options in (("half", []), ("int8", ["--int8", "true"])):
        cli.main(["export", trained[1], "--to", str(tmp_path / folder), *options])
    half, int8 = (Retriever.from_pretrained(str(tmp_path / folder)) for folder in ("half", "int8"))
    for there, here in ((half.encode_images(PICTURES), int8.encode_images(PICTURES)),
                        (half.encode_texts(TEXTS), int8.encode_texts(TEXTS))):  # fmt: skip
        assert not there.equal(here)
        assert (there * here).sum(1).min() > 0.999
    stored = load_file(tmp_path / "int8" / "model.safetensors")
    before = load_file(tmp_path / "half" / "model.safetensors")
    assert all(2 * t.nbytes == before[name].nbytes for name, t in stored.items() if t.dtype == torch.int8)
    assert {tensor.dtype for name, tensor in stored.items() if name.endswith("weight") and tensor.ndim > 1} == {
        torch.int8
    }


def test_a_bank_goes_with_the_model(trained: tuple[RetrievalModule, str], tmp_path: Path) -> None:
    cli.main(["export", trained[1], "--to", str(tmp_path / "ponds")])
    retriever = Retriever.from_pretrained(str(tmp_path / "ponds"))
    gallery = retriever.encode_images(PICTURES)
    assert trained[0].model.bank is not None
    image, text = trained[0].model.bank.queries()
    assert len(image) == len(text) == 32
    for kind, queries in (("images", image), ("texts", text)):
        expected = (queries @ gallery.T / 0.2).logsumexp(0) * 0.2 / 2
        torch.testing.assert_close(retriever.hub_bias(gallery, kind), expected, atol=1e-3, rtol=0)  # type: ignore[arg-type]
    untold = Retriever(retriever.model, 64)  # trained without re-ranking: its default
    expected = (text @ gallery.T / 0.1).logsumexp(0) * 0.1 / 2
    torch.testing.assert_close(untold.hub_bias(gallery), expected, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match=r"no queries 'text'; possible are \['images', 'texts'\]"):
        retriever.hub_bias(gallery, "text")  # type: ignore[arg-type]
    retriever.model.bank = None
    with pytest.raises(ValueError, match=r"has no query bank: train it with model\.encoder\.query_bank"):
        retriever.hub_bias(gallery)


def test_from_the_hub(trained: tuple[RetrievalModule, str], tmp_path: Path, packages: Path) -> None:
    cli.main(["export", trained[1], "--to", str(tmp_path / "hub" / "acme" / "ponds")])
    program = (
        "from rsretrieval import Retriever; print(Retriever.from_pretrained('acme/ponds').encode_texts(['a']).shape)"
    )
    with local_hub(tmp_path / "hub", tmp_path) as env:
        env = {**env, "PYTHONPATH": str(packages)}
        done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert "torch.Size([1, 32])" in done.stdout, done.stderr[-2000:]


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(PretrainedError, match=r"there is no model 'rsicd-large': give a folder with config\.json and"):
        Retriever.from_pretrained("rsicd-large")
    assert rsretrieval.Retriever is Retriever
    with pytest.raises(AttributeError, match="no attribute 'Retreiver'"):
        rsretrieval.Retreiver  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize(("name", "largest"), [("rsicd-lite", 48e6), ("rsicd-tiny", 16e6)])
def test_a_published_model_reproduces_its_validation_figure(name: str, largest: float) -> None:
    if not VALIDATION.is_dir():
        pytest.skip("needs RSICD's validation split in ../shared/data/rsicd")
    card = (PUBLISHED / name / "README.md").read_text()
    (said,) = re.findall(r"mR \*\*(\d+\.\d+)\*\*", card)
    assert (PUBLISHED / name / "model.safetensors").stat().st_size <= largest
    table = RetrievalDataModule("parquet", str(VALIDATION)).table("valid")
    files = sorted(str(file) for file in VALIDATION.glob("valid-*.parquet"))
    retriever = Retriever.from_pretrained(name)
    assert retriever.model.embed_dim <= 1024
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)  # some minutes in float32, and the suite's last ones
    image = retriever.encode_images(list(datasets.Dataset.from_parquet(files)["image"]))
    torch.set_num_threads(threads)
    text = retriever.encode_texts([caption for captions in table.captions for caption in captions])
    owners = torch.tensor([row for row, captions in enumerate(table.captions) for _ in captions])
    assert retrieval_recall(image=image, text=text, owners=owners)["mR"] == pytest.approx(float(said), abs=0.05)


def test_a_standalone_folder_needs_nothing_else(
    trained: tuple[RetrievalModule, str], tmp_path: Path, packages: Path
) -> None:
    """Neither of the packages that it was trained with; wherever it is moved to."""
    cli.main(["export", trained[1], "--to", str(tmp_path / "plain")])
    cli.main(["export", trained[1], "--to", str(tmp_path / "first"), "--standalone", "true"])
    before = Retriever.from_pretrained(str(tmp_path / "plain"))
    images, texts = before.encode_images(PICTURES), before.encode_texts(TEXTS)
    (tmp_path / "first").rename(tmp_path / "moved")
    shutil.rmtree(packages)
    after = Retriever.from_pretrained(str(tmp_path / "moved"))
    torch.testing.assert_close(after.encode_images(PICTURES), images, atol=2e-3, rtol=0)
    torch.testing.assert_close(after.encode_texts(TEXTS), texts, atol=2e-3, rtol=0)
    stored = load_file(tmp_path / "moved" / "model.safetensors")
    assert stored.keys() == after.model.state_dict().keys()
    written = "".join(file.read_text() for file in (tmp_path / "moved").rglob("*.json"))
    assert str(tmp_path) not in written  # no path of this machine


def test_numbers_that_half_precision_cannot_hold_stay_as_they_are() -> None:
    tensors = {"variance": torch.tensor([1.0, 1e5]), "weight": torch.ones(2, 2), "count": torch.tensor(70_000)}
    for int8 in (False, True):
        packed = pack(tensors, int8=int8)
        assert packed["variance"].dtype == torch.float32
        for name, tensor in unpack(packed).items():
            torch.testing.assert_close(tensor, tensors[name].float())


def test_files_of_this_machine_are_in_the_folder(tmp_path: Path, tiny_bert: str, tiny_clip: str) -> None:
    """Towers from paths: the exported folder holds every tensor, the definitions and the tokeniser, and no path."""
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "start.pt")
    image = TowerConfig("timm", "test_resnet", str(tmp_path / "start.pt"))
    for number, text in enumerate((TowerConfig("transformers", tiny_bert), TowerConfig("open_clip", tiny_clip))):
        module = tiny.module(image, text)
        content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
        torch.save(content, tmp_path / f"{number}.ckpt")
        cli.main(["export", str(tmp_path / f"{number}.ckpt"), "--to", str(tmp_path / f"to-{number}")])
        with torch.no_grad():
            wanted = module.model.eval().encode_text(["a red plane"])
        folder = (tmp_path / f"to-{number}").rename(tmp_path / f"moved-{number}")
        Path(text.name).rename(tmp_path / "gone")
        again = Retriever.from_pretrained(str(folder)).encode_texts(["a red plane"])
        torch.testing.assert_close(again, wanted, atol=2e-3, rtol=0)
        assert str(tmp_path) not in "".join(file.read_text() for file in folder.rglob("*.json"))
        (tmp_path / "gone").rename(text.name)


def test_a_folder_is_used_as_its_run_was_evaluated(trained: tuple[RetrievalModule, str], tmp_path: Path) -> None:
    content = torch.load(trained[1], weights_only=True)
    content["RetrievalDataModule"] |= {"eval_image_size": 96, "max_words": 3}
    torch.save(content, tmp_path / "other.ckpt")
    cli.main(["export", str(tmp_path / "other.ckpt"), "--to", str(tmp_path / "to")])
    retriever = Retriever.from_pretrained(str(tmp_path / "to"))
    assert (retriever.image_size, retriever.max_words) == (96, 3)
    long, short = retriever.encode_texts(["a red plane beside two ships", "a red plane"])
    assert long.equal(short)
