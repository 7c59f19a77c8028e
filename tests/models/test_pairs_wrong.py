"""Pre-trained pairs that cannot be: refused in words, before anything runs or is taken for something else."""

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import yaml
from PIL import Image

from rsretrieval import EncoderConfig, RetrievalDataModule, Retriever, TowerConfig, cli
from rsretrieval.images import BrokenImageError
from rsretrieval.models.catalogue import ModelEntry, seen_in_training
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.exported import PretrainedError
from rsretrieval.models.open_clip_folder import check_is_open_clip, write_open_clip
from rsretrieval.models.pairs import open_clip_pair
from rsretrieval.models.pretrained import find_model
from rsretrieval.models.weights import WeightsError, read_state_dict
from rsretrieval.settings import SettingsError
from rsretrieval.types import Preprocessing

sys.path.insert(0, str(Path(__file__).parents[1]))
from pairs import random_model, write_architecture, write_transformers_pair


@pytest.fixture
def architecture(tmp_path: Path) -> str:
    """Configuration of a small ViT; the weights of one are in ``weights.pt`` beside it."""
    file = write_architecture(tmp_path, "vit")
    torch.save(random_model(file.stem).state_dict(), tmp_path / "weights.pt")
    return str(file)


def write_entry(tmp_path: Path, **settings: object) -> str:
    """A file of an entry whose weights are those of ``architecture``."""
    own = {"library": "open_clip", "path": str(tmp_path / "weights.pt"), **settings}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    return str(tmp_path / "own.yaml")


def test_an_unknown_name() -> None:
    with pytest.raises(PretrainedError, match=r"no model 'remoteclip-vitb32'.*did you mean .*'remoteclip-vit-b-32'"):
        Retriever.from_pretrained("remoteclip-vitb32")
    with pytest.raises(ValueError, match=r"open_clip has no model 'ViT-Z-1'; possible are \['"):
        Retriever.from_open_clip("ViT-Z-1", "weights.pt")
    with pytest.raises(WeightsError, match=r"no weights 'laion9b' of 'RN50'; known are \['openai'"):
        Retriever.from_open_clip("RN50", "pretrained:laion9b")
    with pytest.raises(WeightsError, match=r"no weights at 'gone\.pt'; possible are"):
        Retriever.from_open_clip("ViT-B-32", "gone.pt", activation="gelu")


def test_keys_that_do_not_fit(architecture: str, tmp_path: Path) -> None:
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    gone = sorted(key for key in state if key.startswith("visual.transformer.resblocks.1."))
    changed = {key: value for key, value in state.items() if key not in gone}
    torch.save({**changed, "extra.a": torch.ones(1), "extra.b": torch.ones(1)}, tmp_path / "weights.pt")
    first = ", ".join(map(repr, gone[:3]))
    message = rf"missing {len(gone)} \[{first}\], left over 2 \['extra.a', 'extra.b'\], of another shape 0 \[\]"
    with pytest.raises(WeightsError, match=rf"do not fit CLIP: {len(changed)} of its {len(state)} entries.*{message}"):
        Retriever.from_pretrained(write_entry(tmp_path, architecture=architecture))
    torch.save({**state, "text_projection": torch.ones(32, 12)}, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=r"of another shape 1 \['text_projection \(32, 12\) for \(32, 24\)'\]"):
        Retriever.from_open_clip(architecture, str(tmp_path / "weights.pt"))


def test_texts_of_another_length(architecture: str, tmp_path: Path) -> None:
    state = random_model(Path(architecture).stem, force_context_length=248).state_dict()
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=r"texts of 248 tokens, and the model's of 32: give context_length=248"):
        Retriever.from_pretrained(write_entry(tmp_path, architecture=architecture))
    retriever = Retriever.from_pretrained(write_entry(tmp_path, architecture=architecture, context_length=248))
    assert retriever.model.tokenizer(["a"])["input_ids"].shape == (1, 248)


def test_another_file_than_the_known_one(architecture: str, tmp_path: Path) -> None:
    digest = sha256((tmp_path / "weights.pt").read_bytes()).hexdigest()
    assert Retriever.from_pretrained(write_entry(tmp_path, architecture=architecture, sha256=digest)) is not None
    with pytest.raises(WeightsError, match=rf"is not the file of .*SHA-256 is {digest}, and {'0' * 64} is known"):
        Retriever.from_pretrained(write_entry(tmp_path, architecture=architecture, sha256="0" * 64))


def test_an_activation_that_is_not_stated(architecture: str, tmp_path: Path) -> None:
    weights = str(tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=r"activation of these weights is not stated: 'ViT-B-32' is trained with"):
        Retriever.from_open_clip("ViT-B-32", weights)
    with pytest.raises(ValueError, match="'ViT-B-32-quickgelu' has QuickGELU, and activation='gelu' is asked for"):
        Retriever.from_open_clip("ViT-B-32-quickgelu", weights, activation="gelu")

    for name in ("QuickGELU", "quickgelu", "relu", ""):
        with pytest.raises(ValueError, match=rf"activation='{name}' is unknown; possible are \['gelu', 'quick_gelu'\]"):
            Retriever.from_open_clip("ViT-B-32", weights, activation=name)  # type: ignore[arg-type]


def test_paths_are_taken_as_their_names(architecture: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    by_path, by_name = (
        Retriever.from_open_clip(*pair) for pair in ((Path(architecture), file), (architecture, str(file)))
    )
    assert by_path.model.config == by_name.model.config
    tower = TowerConfig("open_clip", Path(architecture), file)  # type: ignore[arg-type]
    assert tower == TowerConfig("open_clip", architecture, str(file))


def test_a_tag_brings_its_own_activation(recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    config = open_clip_pair("ViT-B-32", "pretrained:openai")
    assert config.image.options == {"force_quick_gelu": True}
    assert open_clip_pair("ViT-B-32", "pretrained:laion2b_s34b_b79k").image.options == {"force_quick_gelu": False}
    built = []
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda *_, **__: "none.pt")
    monkeypatch.setattr("open_clip.factory.load_checkpoint", lambda model, *_, **__: built.append(model))
    with torch.device("meta"):
        open_clip.create_model("ViT-B-32", "openai", device="meta", **config.image.options)
    assert len(built) == 1
    assert not [warning for warning in recwarn if "QuickGELU mismatch" in str(warning.message)]


def test_bands(architecture: str, tmp_path: Path) -> None:
    retriever = Retriever.from_open_clip(architecture, str(tmp_path / "weights.pt"))
    with pytest.raises(BrokenImageError, match=r"^picture 1 of the list: "):
        retriever.encode_images([np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 10), np.uint8)])
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    torch.save({**state, "visual.conv1.weight": torch.randn(64, 10, 16, 16)}, tmp_path / "weights.pt")
    statistics = {"mean": [1000.0] * 10, "std": [500.0] * 10}
    entry = write_entry(tmp_path, architecture=architecture, bands=10, preprocessing=statistics)
    ten = Retriever.from_pretrained(entry)
    for image in (np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)):
        with pytest.raises(BrokenImageError, match=r"picture 0 of the list: this model takes images of 10 bands"):
            ten.encode_images([image])
    Image.new("RGB", (64, 64)).save(tmp_path / "rgb.png")
    with pytest.raises(BrokenImageError, match=r"rgb\.png'\): this model takes images of 10 bands, and this one has 3"):
        ten.encode_images([tmp_path / "rgb.png"])
    data = RetrievalDataModule(image_size=64, num_workers=0)
    with pytest.raises(ValueError, match="takes images of 10 bands, and the data are RGB: embed such images by"):
        data.serve(ten.model.tokenizer, ten.model.config.preprocessing, as_written=True)
    with pytest.raises(ValueError, match="takes images of 10 bands, and the data are RGB"):
        cli.main([
            "test", "-c", "zero_shot", "--model.pretrained", entry, "--data.source", "synthetic",
            "--data.num_workers", "0", "--trainer.default_root_dir", str(tmp_path / "runs"),
        ])  # fmt: skip


def test_bands_of_a_tower_that_has_no_first_convolution_of_its_own(tmp_path: Path) -> None:
    file = write_architecture(tmp_path, "timm")
    torch.save(random_model(file.stem).state_dict(), tmp_path / "weights.pt")
    statistics = {"mean": [0.0] * 10, "std": [1.0] * 10}
    config = open_clip_pair(str(file), str(tmp_path / "weights.pt"), bands=10, preprocessing=statistics)
    with pytest.raises(ValueError, match="images of 10 bands are for open_clip's own vision transformers and ResNets"):
        DualEncoder(config)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("executed").touch, ())


def test_a_pickle_that_holds_code(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    torch.save({"state_dict": state, "hook": Evil()}, tmp_path / "weights.pt")
    for load in (
        lambda: Retriever.from_pretrained(write_entry(tmp_path, architecture=architecture)),
        lambda: Retriever.from_open_clip(architecture, str(tmp_path / "weights.pt")),
        lambda: Retriever.from_pretrained(str(tmp_path / "weights.pt")),  # as if it were a checkpoint
    ):
        with pytest.raises(ValueError, match=r"weights\.pt' (holds Python objects|cannot be read as a checkpoint)"):
            load()
    assert not Path("executed").exists()


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PretrainedError, match=r"empty' holds no model: it has neither config\.json nor open_clip_conf"):
        Retriever.from_pretrained(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match=r"empty' is no model of open_clip's: it has no open_clip_config\.json"):
        Retriever.from_open_clip(f"local-dir:{tmp_path / 'empty'}")
    (tmp_path / "empty" / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 8}}')
    with pytest.raises(ValueError, match=r"no configuration of an open_clip model: it has no \['vision_cfg', 'text_"):
        Retriever.from_open_clip(str(tmp_path / "empty"))
    with pytest.raises(WeightsError, match=r"no image processor at .*gone"):
        Retriever.from_transformers(str(tmp_path / "gone"))
    with pytest.raises(SettingsError, match=r"own\.yaml.*a file of weights for open_clip|own\.yaml.*none: hub, path"):
        Retriever.from_pretrained(write_entry(tmp_path, path=""))


def test_pairs_of_transformers_that_are_not_read(tmp_path: Path) -> None:
    """SigLIP 2 of any image size (NaFlex) takes patches, not squares."""
    folder = write_transformers_pair(tmp_path / "pair", "siglip")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": "siglip2"}))
    with pytest.raises(ValueError, match=r"an image-text model of the type 'siglip2', which is not read"):
        Retriever.from_transformers(str(folder))
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**processor, "size": {"height": 64, "width": 96}}))
    with pytest.raises(WeightsError, match=r"pair' prepares images in a way that is not read \(size "):
        Retriever.from_transformers(str(folder))


def test_a_name_without_weights_is_no_model_at_random() -> None:
    with pytest.raises(ValueError, match="'ViT-B-32-quickgelu' without weights is a model at random"):
        Retriever.from_open_clip("ViT-B-32-quickgelu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"library": "transformers", "hub": "a/b", "sha256": "0" * 64}, r"\['sha256'\] have no effect here"),
        ({"library": "transformers", "hub": "a/b", "preprocessing": {"mean": [0, 0, 0]}}, "its folder's own"),
        (
            {"library": "open_clip", "architecture": "ViT-B-32", "tag": "openai", "context_length": 248},
            "tag has its own",
        ),
        ({"library": "open_clip", "path": "my.pt"}, "needs its architecture"),
        ({"library": "open_clip", "hub": "a/b", "sha256": "0" * 64}, "sha256 is of one file"),
    ],
)
def test_fields_that_would_have_no_effect_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelEntry(**settings)


def test_a_pointer_of_git_lfs_is_named_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "clip.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    with pytest.raises(WeightsError, match=r"is no file of weights: it begins with b'version https://git-lfs"):
        read_state_dict(str(tmp_path / "clip.pt"))


def test_a_pair_under_new_projections_is_as_it_was_before_pairs_kept_their_space(tiny_clip: str) -> None:
    tower = TowerConfig("open_clip", tiny_clip)
    older = DualEncoder(EncoderConfig(tower, tower, None, Preprocessing(64), embed_dim=8))
    assert older.logits is None
    assert older.config.cleans_texts
    assert not any(name.startswith("logits.") for name in older.state_dict())


def test_the_activation_is_in_what_open_clip_reads(tiny_clip: str, tmp_path: Path) -> None:
    tower = TowerConfig("open_clip", tiny_clip, options={"force_quick_gelu": True})
    model = DualEncoder(EncoderConfig(tower, tower, None, Preprocessing(64)))
    write_open_clip(model, tmp_path / "folder")
    assert json.loads((tmp_path / "folder" / "open_clip_config.json").read_text())["model_cfg"]["quick_gelu"] is True
    prompted = EncoderConfig(tower, tower, None, Preprocessing(64), prompts=("a photo of {}",))
    with pytest.raises(ValueError, match="open_clip has no place for prompts with a model"):
        check_is_open_clip(prompted)


def test_what_a_model_saw_in_training() -> None:
    assert find_model("rsicd-lite").trained_on == ("rsicd",)
    assert seen_in_training(("rsitmd",), "ret3 ") == "rsitmd"
    assert seen_in_training(("nwpu-captions",), "folder /data/nwpu captions") == "nwpu-captions"
