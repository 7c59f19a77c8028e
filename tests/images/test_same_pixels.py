"""Training, evaluation, pictures of reports, local copies and ``Retriever`` see the same pixels, by one setting."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from wide import THIRTEEN, check_thirteen_bands, png

from rsretrieval import RetrievalDataModule, RetrievalModule, Retriever, TowerConfig, cli
from rsretrieval.data import Columns, DataError, Record, Source, register_dataset
from rsretrieval.data.prepare import prepare
from rsretrieval.images import Rendering, RenderingError, decode
from rsretrieval.types import Preprocessing

SCALE = "minmax 300 3000"


def wide(row: int) -> bytes:
    """A 16-bit PNG of 300 to 3,000."""
    values = np.random.default_rng(row).integers(300, 3001, (24, 24, 3)).astype(np.uint16)
    return png(values if row % 2 else values[..., 0])


class Ponds(Source):
    """Pictures of 16 bits, or of 8 but for some rows."""

    def __init__(self, rows: int, wide_rows: Sequence[int]) -> None:
        self.rows, self.wide_rows = rows, wide_rows

    def records(self, split: str) -> list[Record]:
        return [Record(f"pond_{row}.png", (f"pond {row}", "water")) for row in range(self.rows)]

    def read(self, split: str, block: int) -> list[object]:
        return [wide(block) if block in self.wide_rows else png(np.full((8, 8, 3), block % 256, np.uint8))]


@register_dataset("wide ponds")
def _wide_ponds(path: str, columns: Columns) -> Source:
    return Ponds(16, range(16))


@register_dataset("a wide pond")
def _a_wide_pond(path: str, columns: Columns) -> Source:
    return Ponds(200, [150])


@register_dataset("ponds in thirteen bands")
def _thirteen(path: str, columns: Columns) -> Source:
    source = Ponds(16, [])
    source.read = lambda split, block: [THIRTEEN + block]  # type: ignore[method-assign]
    return source


def data(name: str, **options: object) -> RetrievalDataModule:
    settings = {"image_size": 24, "batch_size": 8, "num_workers": 0, "augmentation": "none", **options}
    return RetrievalDataModule(name, **settings)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["wide ponds", "a wide pond"])
def test_a_depth_that_needs_a_scale_stops_the_run_and_names_it(name: str, workers: int) -> None:
    """Also where it is one row of 200, which ``max_broken`` would leave out."""
    module = data(name, num_workers=workers)
    for loader in (module.train_dataloader(), module.val_dataloader()):
        with pytest.raises(
            DataError, match=r"image of 'pond_\d+\.png' needs a setting: it has \d bands? of uint16.*--data\.scale"
        ):
            list(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_evaluation_and_reports_follow_the_scale(workers: int) -> None:
    module = data("wide ponds", scale=SCALE, num_workers=workers)
    expected = [np.asarray(decode(wide(row), Rendering.parse(SCALE))) for row in range(16)]
    assert 100 < np.mean(expected) < 155  # not white
    for loader in (module.train_dataloader(), module.val_dataloader()):
        for batch in loader:
            for row, image in zip(batch.image_ids.tolist(), batch.images, strict=True):
                assert np.array_equal(image.permute(1, 2, 0).numpy(), expected[row])
    assert np.array_equal(np.asarray(module.stream("valid").image(3)), expected[3])


def test_thirteen_bands_train_by_three_of_them() -> None:
    with pytest.raises(
        DataError, match=r"image of 'pond_\d+\.png' needs a setting: it has 13 bands of uint16: say which"
    ):
        list(data("ponds in thirteen bands").train_dataloader())
    module = data("ponds in thirteen bands", scale="minmax 0 510", bands="4 3 2")
    image = module.stream("valid").image(0)
    assert (image.getpixel((0, 0)), image.getpixel((1, 0))) == ((225, 175, 125), (200, 150, 100))
    check_thirteen_bands(module.stream("valid").encoded(0))


def test_settings_are_checked_where_they_are_read() -> None:
    with pytest.raises(ValueError, match=r"--data\.scale: the scale 'levels' is not understood: possible are dtype"):
        data("wide ponds", scale="levels")
    with pytest.raises(ValueError, match=r"--data\.bands '4 3' is not understood"):
        data("wide ponds", bands="4 3")


@pytest.mark.parametrize("size", [None, 12])
def test_a_copy_has_eight_bits_by_the_rule(tmp_path: Path, size: int | None) -> None:
    with pytest.raises(DataError, match=r"'pond_0\.png' needs a setting: it has 1 band of uint16.*--data\.scale"):
        prepare("wide ponds", str(tmp_path / "refused"), splits=["train"], size=size)
    prepare("wide ponds", str(tmp_path / "copy"), splits=["train"], size=size, scale=SCALE)
    copy, original = data("parquet", path=str(tmp_path / "copy")), data("wide ponds", scale=SCALE)
    image = copy.stream("train", train=True).image(3)
    if size is None:
        assert image.tobytes() == original.stream("train", train=True).image(3).tobytes()
    else:
        assert image.size == (12, 12)
        assert 100 < np.mean(image) < 155
    with pytest.raises(DataError, match=r"was prepared with .*: give the same settings to go on with it"):
        prepare("wide ponds", str(tmp_path / "copy"), splits=["train"], size=size, scale="dtype")


def test_a_copy_keeps_the_bytes_of_what_needs_no_rule(tmp_path: Path) -> None:
    prepare("a wide pond", str(tmp_path), splits=["train"], scale=SCALE)
    copy, original = (module.stream("train") for module in (data("parquet", path=str(tmp_path)), data("a wide pond")))
    for row in (149, 151):
        assert copy.encoded(row)["bytes"] == original.encoded(row)
    assert copy.image(150).tobytes() == decode(wide(150), Rendering.parse(SCALE)).tobytes()
    prepare("a wide pond", str(tmp_path / "bands"), splits=["valid"], scale=SCALE, bands="1")
    assert data("parquet", path=str(tmp_path / "bands")).stream("valid").image(9).getpixel((0, 0)) == (9, 9, 9)


def test_a_copy_of_bands_in_the_order_that_was_set(tmp_path: Path) -> None:
    prepare("ponds in thirteen bands", str(tmp_path), splits=["valid"], scale="minmax 0 510", bands="4 3 2")
    assert data("parquet", path=str(tmp_path)).stream("valid").image(0).getpixel((1, 0)) == (200, 150, 100)


@pytest.fixture
def retriever(tiny_clip: str) -> Retriever:
    torch.manual_seed(0)
    towers = TowerConfig("timm", "test_resnet"), TowerConfig("open_clip", tiny_clip)
    return Retriever(tiny.encoder(*towers), 24)


def test_a_retriever_takes_pictures_paths_bytes_and_arrays(retriever: Retriever, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    file = str(tmp_path / "a.png")
    images = [Image.fromarray(values), file, Path(file), content, {"bytes": content, "path": None}, values]
    embeddings = retriever.encode_images([*images, torch.from_numpy(values)])
    assert embeddings.shape == (7, 32)
    assert all(row.equal(embeddings[0]) for row in embeddings)
    assert retriever.encode_images(tuple(images)).equal(embeddings[:6])
    assert retriever.encode_images(image for image in images).equal(embeddings[:6])
    assert retriever.encode_images(np.stack([values, values])).equal(embeddings[:2])


def test_a_single_picture_or_sentence_is_refused_in_words(retriever: Retriever, tmp_path: Path) -> None:
    values = np.zeros((8, 8, 3), np.uint8)
    image = Image.fromarray(values)
    for single in (image, str(tmp_path), tmp_path, b"", values, values[..., 0], torch.from_numpy(values), {}, None, 3):
        with pytest.raises(
            TypeError, match=r"takes several pictures, not one \w+: give a list of pictures: \[picture\]"
        ):
            retriever.encode_images(single)  # type: ignore[arg-type]
    for sentence in ("two ships", b"two ships", None, 3):
        with pytest.raises(TypeError, match=r"takes a list of sentences, not one \w+: give \[sentence\]"):
            retriever.encode_texts(sentence)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"sentence 1 is of type int, not a string: 7"):
        retriever.encode_texts(["a", 7])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"picture 1 of the list \('.*nowhere\.png'\): .*No such file"):
        retriever.encode_images([image, tmp_path / "nowhere.png"])
    with pytest.raises(ValueError, match="picture 0 of the list: a value of type list is no image"):
        retriever.encode_images([[1, 2]])


def test_a_retriever_has_a_scale_of_its_own(retriever: Retriever, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        RenderingError,
        match=r"picture 1 of the list: it has 1 band of uint16 .*\(elsewhere --scale, in Python scale=…\)",
    ):
        retriever.encode_images([Image.new("RGB", (8, 8)), wide(0)])
    scaled = Retriever(retriever.model, 24, scale=SCALE, bands="3 2 1")
    expected = np.asarray(decode(wide(1), Rendering.parse(SCALE)))[..., ::-1]
    assert scaled.encode_images([wide(1)], progress=True).equal(retriever.encode_images([expected]))
    shown = capsys.readouterr().err
    assert "1/1" in shown
    assert "pictures" in shown
    with pytest.raises(ValueError, match="'levels' is not understood"):
        Retriever(retriever.model, 24, scale="levels")


def test_an_exported_model_reads_pictures_as_it_was_trained(tmp_path: Path, tiny_clip: str) -> None:
    """By the command line: the scale goes from the data to the checkpoint, to the folder, to the retriever."""
    towers = {
        "image": {"library": "timm", "name": "test_resnet", "weights": None},
        "text": {"library": "open_clip", "name": tiny_clip, "weights": None},
    }
    configuration = {
        "seed_everything": 0,
        "trainer": {
            "default_root_dir": str(tmp_path / "run"), "max_epochs": 1, "accelerator": "cpu", "logger": False,
            "enable_progress_bar": False, "enable_model_summary": False,
        },
        "model": {"encoder": {**towers, "convolutional_branch": None, "embed_dim": 16}},
        "data": {"source": "wide ponds", "image_size": 64, "batch_size": 8, "num_workers": 0, "augmentation": "none"},
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(configuration))
    cli.main(["fit", "-c", str(tmp_path / "run.json"), "--data.scale", SCALE, "--data.bands", "1"])
    checkpoint = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    settings = torch.load(checkpoint, weights_only=True)["hyper_parameters"]
    assert settings["encoder"]["preprocessing"] == {
        **settings["encoder"]["preprocessing"], "image_size": 64, "scale": SCALE, "bands": "1",
    }  # fmt: skip
    cli.main(["export", checkpoint, "--to", str(tmp_path / "folder")])
    retriever = Retriever.from_pretrained(str(tmp_path / "folder"))
    assert retriever.rendering == Rendering.parse(SCALE, "1")
    assert retriever.encode_images([wide(1)]).shape == (1, 16)
    other = Retriever.from_pretrained(str(tmp_path / "folder"), scale="dtype", bands="3 2 1")
    assert other.rendering == Rendering.parse("dtype", "3 2 1")
    cli.main(["test", "-c", str(tmp_path / "run.json"), "--data.scale", SCALE, "--ckpt_path", checkpoint])


def of_batch_size(images: torch.Tensor) -> torch.Tensor:
    """Embeddings that depend on how many images are beside each other, as with some libraries' kernels."""
    flat = torch.nn.functional.normalize(images.float().mean((2, 3)), dim=1)
    return torch.nn.functional.normalize(flat + 1e-4 * len(images) * torch.tensor([1.0, -1.0, 0.5]), dim=1)


def test_equal_images_tie_whatever_the_last_batch(tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine equal images in batches of 4, 4 and 1. Every query has nine equal candidates: recall at 1 is a ninth."""
    torch.manual_seed(0)
    towers = TowerConfig("timm", "test_resnet"), TowerConfig("open_clip", tiny_clip)
    module = RetrievalModule(tiny.settings(*towers, preprocessing=Preprocessing(8), embed_dim=3)).eval()
    monkeypatch.setattr(module.model, "encode_image", of_batch_size)
    source = Ponds(9, [])
    source.read = lambda split, block: [Image.new("RGB", (8, 8), (9, 99, 50))]  # type: ignore[method-assign]
    ponds = data("wide ponds", image_size=8, eval_batch_size=4)
    ponds._source = source
    sizes = []
    for batch in ponds.val_dataloader():
        sizes.append(len(batch.images))
        assert batch.image_keys is not None
        with torch.no_grad():
            module.validation_step(batch)
    assert sizes == [4, 4, 1]
    embeddings = module.recall.merged().image
    assert len(embeddings) == 9
    assert embeddings.equal(embeddings[:1].expand(9, 3))
    assert module.recall.compute()["t2i_R@1"] == pytest.approx(100 / 9)
    assert next(iter(ponds.train_dataloader())).image_keys is None  # nobody asks for it


def test_a_retriever_encodes_each_distinct_picture_once(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def encode(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return of_batch_size(images)

    monkeypatch.setattr(retriever.model, "encode_image", encode)
    monkeypatch.setattr(retriever.model, "width", 3)
    red, green, blue = (Image.new("RGB", (40, 40), name) for name in ("red", "green", "blue"))
    larger = Image.new("RGB", (80, 80), "red")  # equal once it is resized
    embeddings = retriever.encode_images([red, green, larger, blue, red, green], batch_size=2)
    assert sizes == [2, 1]
    assert embeddings[2].equal(embeddings[0])
    assert embeddings[4].equal(embeddings[0])
    assert embeddings[5].equal(embeddings[1])
    assert not embeddings[3].equal(embeddings[0])
