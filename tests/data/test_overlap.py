"""Near-duplicates between sets: hashes against a slow reference, changed copies found, other scenes not."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rsretrieval import cli
from rsretrieval.data import DataError, MissingSplitError, RetrievalDataModule
from rsretrieval.data import perceptual_hash as module
from rsretrieval.data.datasets.base import Columns
from rsretrieval.data.datasets.synthetic import SyntheticSource
from rsretrieval.data.near_duplicates import Images, near_pairs
from rsretrieval.data.overlap import overlap
from rsretrieval.data.perceptual_hash import chunks, distances, hashes, orientations


def scenes(count: int) -> list[Image.Image]:
    source = SyntheticSource("", Columns())
    return [image.convert("RGB") for n in range(count) for image in source.read("test", n)]  # type: ignore[attr-defined]


def jpeg(image: Image.Image, quality: int = 60) -> Image.Image:
    image.save(content := io.BytesIO(), "JPEG", quality=quality)
    return Image.open(content)


def smaller(image: Image.Image) -> Image.Image:
    return image.resize((round(0.7 * image.width), round(0.7 * image.height)), Image.Resampling.BICUBIC)


CHANGES = {
    "compressed": jpeg,
    "smaller": smaller,
    "mirrored": ImageOps.mirror,
    "turned": lambda image: image.rotate(90),
    "all": lambda image: jpeg(smaller(ImageOps.mirror(image).rotate(270))),
}


def write(folder: Path, images: dict[str, Image.Image], split: str = "train", captions: bool = True) -> Path:
    (folder / "images").mkdir(parents=True)
    for name, image in images.items():
        image.save(folder / "images" / name)
    if captions:
        rows = [{"filename": name, "split": split, "sentences": [{"raw": "a"}]} for name in images]
        (folder / "dataset.json").write_text(json.dumps({"images": rows}))
    return folder


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as content:
        return list(csv.DictReader(content))


def test_hashes_are_imagehashs() -> None:
    for image in scenes(5):
        (number,) = hashes(image).tolist()
        assert f"{number:016x}" == str(imagehash.phash(image))


def test_orientations_are_the_eight_of_a_square() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    made = [np.asarray(image).tolist() for image in orientations(Image.fromarray(pixels))]
    turned = [np.rot90(pixels, k) for k in range(4)]
    assert made == [one.tolist() for one in [*turned, *map(np.fliplr, turned)]]
    assert len({str(one) for one in made}) == 8


def test_distances_against_a_slow_reference() -> None:
    random = np.random.default_rng(0)
    first = random.integers(0, 2**64, 7, np.uint64)
    second = random.integers(0, 2**64, (5, 8), np.uint64)
    slow = [[min((int(a) ^ int(b)).bit_count() for b in of_image) for of_image in second] for a in first]
    assert distances(first, second).tolist() == slow


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found(change: str) -> None:
    images = scenes(60)
    own = [distances(hashes(CHANGES[change](image)), hashes(image, oriented=True)[None])[0, 0] for image in images]
    assert max(own) <= 6  # the default


def images(count: int, width: int, seed: int) -> Images:
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(count, 4)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    near = np.uint64(0x0123456789ABCDEF) ^ (np.uint64(1) << random.integers(0, 64, (count, width), np.uint64))
    return Images([f"{n}.png" for n in range(count)], ["train"] * count, near, embeddings)


def test_pairs_against_a_slow_reference_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = images(23, 1, 1), images(11, 8, 1)
    assert a.embeddings is not None
    assert b.embeddings is not None
    slow = []
    for row, name in enumerate(a.names):
        for other, other_name in enumerate(b.names):
            distance = min((int(a.hashes[row, 0]) ^ int(one)).bit_count() for one in b.hashes[other])
            cosine = float(a.embeddings[row] @ b.embeddings[other])
            if (distance <= 1 or cosine >= 0.9) and name != other_name:
                slow.append((row, other, distance, pytest.approx(cosine, abs=1e-6)))
    assert {distance <= 1 for _, _, distance, _ in slow} == {True, False}  # by each of the two
    for compared in (1, 30, 2**23):
        monkeypatch.setattr(module, "COMPARED", compared)
        assert [tuple(pair) for pair in near_pairs(a, b, 1, 0.9, same=True)] == slow
    monkeypatch.setattr(module, "COMPARED", 30)
    assert [(rows.start, rows.stop) for rows in chunks(7, 11)] == [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert list(chunks(0, 11)) == []


def embed(pictures: list[Any]) -> NDArray[np.float32]:
    """Mean colours, which neither a mirror nor a turn changes."""
    means = np.array([np.asarray(image).mean((0, 1)) for image in pictures], np.float32)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def test_the_command_and_the_training_without_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, three, *others = scenes(8)
    a = write(tmp_path / "a", {"x.png": one, "y.png": two, **{f"{n}.png": image for n, image in enumerate(others)}})
    b = write(tmp_path / "b", {"p.png": jpeg(ImageOps.flip(one)), "q.png": smaller(two), "r.png": three}, "test")
    found = tmp_path / "found" / "near.csv"
    sides = [f"folder:{a}", f"folder:{b}", "--to", str(found)]
    cli.main(["data", "overlap", *sides, "--splits_a", "[train]", "--splits_b", "[test]"])
    assert capsys.readouterr().out == (
        f"2 of 7 images of folder:{a} (train) have a near-duplicate among the 3 images of folder:{b} (test): 2 pairs, "
        f"written to {found}\n"
    )
    pairs = read(found)
    assert [(p["filename_a"], p["split_a"], p["filename_b"], p["split_b"]) for p in pairs] == [
        ("x.png", "train", "p.png", "test"),
        ("y.png", "train", "q.png", "test"),
    ]
    assert all(int(pair["distance"]) <= 6 and pair["cosine"] == "" for pair in pairs)
    data = RetrievalDataModule("folder", str(a), exclude=str(found))
    assert data.table("train").names == [f"{n}.png" for n in range(5)]
    cli.main(["data", "overlap", *sides, "--max_distance", "0"])
    assert read(found) == [pair for pair in pairs if pair["distance"] == "0"]
    assert f"{len(read(found))} of 7 images" in capsys.readouterr().out


def test_by_embedding_too(tmp_path: Path) -> None:
    one, *others = scenes(4)
    crop = one.crop((20, 20, 90, 90))
    a = write(tmp_path / "a", {"x.png": one, "y.png": others[0]})
    b = write(tmp_path / "b", {"p.png": crop, "q.png": others[1]}, "test")
    cosines = embed([one, others[0]]) @ embed([crop, others[1]]).T
    found = overlap(f"folder:{a}", f"folder:{b}", str(tmp_path / "n.csv"), min_cosine=float(cosines.max()), embed=embed)
    (pair,) = read(tmp_path / "n.csv")
    assert (found.pairs, found.images, found.of) == (1, 1, 2)
    assert int(pair["distance"]) > 6
    assert float(pair["cosine"]) == pytest.approx(cosines.max(), abs=1e-4)


def test_the_commands_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = write(tmp_path / "a", {"x.png": scenes(1)[0]})

    class Stub:
        @classmethod
        def from_pretrained(cls, name: str, *, trust_remote_code: bool) -> "Stub":
            assert (name, trust_remote_code) == ("my-model", False)
            return cls()

        def encode_images(self, pictures: list[Any]) -> Any:
            import torch

            return torch.from_numpy(embed(pictures))

    monkeypatch.setitem(sys.modules, "rsretrieval.retriever", type("stub", (), {"Retriever": Stub}))
    folder = f"folder:{a}"
    cli.main(["data", "overlap", folder, folder, "--to", str(tmp_path / "n.csv"), "--model", "my-model"])
    assert read(tmp_path / "n.csv") == []  # of one set, an image is no duplicate of itself
    b = write(tmp_path / "b", {"x.png": scenes(1)[0]})
    cli.main(["data", "overlap", folder, f"folder:{b}", "--to", str(tmp_path / "n.csv"), "--model", "my-model"])
    assert [(pair["distance"], pair["cosine"]) for pair in read(tmp_path / "n.csv")] == [("0", "1.0000")]


def test_a_set_with_itself_gives_each_pair_once(tmp_path: Path) -> None:
    one, two = scenes(2)
    pictures = {"test/P/a": one, "train/P/b": one, "train/P/c": jpeg(one), "train/Q/d": two}
    for name, image in pictures.items():
        (tmp_path / "c" / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "c" / f"{name}.png")
    side, to = f"classes:{tmp_path / 'c'}", tmp_path / "n.csv"
    wanted = [("b", "c"), ("b", "a"), ("c", "a")]  # the training image is A's
    for splits in (None, ["test", "train"], ["train", "test"]):
        found = overlap(side, side, str(to), splits_a=splits, splits_b=splits and splits[::-1])
        assert [(Path(p["filename_a"]).stem, Path(p["filename_b"]).stem) for p in read(to)] == wanted
        assert (found.pairs, found.images, found.of) == (3, 3, 4)
    found = overlap(side, side, str(to), splits_a=["train"], splits_b=["train", "test"])  # not the same rows
    assert (found.pairs, found.images) == (4, 2)


def test_two_splits_of_one_set_without_captions(tmp_path: Path) -> None:
    one, two, three = scenes(3)
    for name, image in {"train/P/a": one, "train/Q/b": two, "test/P/a": three, "test/Q/b": jpeg(one)}.items():
        (tmp_path / "c" / name).parent.mkdir(parents=True)
        image.save(tmp_path / "c" / f"{name}.png")
    side = f"classes:{tmp_path / 'c'}"
    overlap(side, side, str(tmp_path / "n.csv"), splits_a=["train"], splits_b=["test"])
    (pair,) = read(tmp_path / "n.csv")
    assert (pair["filename_a"], pair["filename_b"]) == ("train/P/a.png", "test/Q/b.png")


def test_columns_of_a_side_and_images_of_several_rows(tmp_path: Path, tiny_data: str) -> None:
    picture = scenes(1)[0]
    a = write(tmp_path / "a", {"x.png": picture}, captions=False)
    (a / "x_train.csv").write_text("tile,words\nx.png,a\nx.png,b\n")
    found = overlap(
        f"folder:{a}", f"parquet:{tiny_data}", str(tmp_path / "n.csv"), columns_a=Columns("tile", "words", "tile")
    )
    assert (found.of, found.images) == (1, 0)
    assert f"parquet:{tiny_data} (train, valid, test)" in found.text
    assert "among the 16 images" in found.text


def test_broken_images_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two = scenes(2)
    a = write(tmp_path / "a", {"x.png": one, "y.png": two, "z.png": two})
    (a / "images" / "y.png").write_bytes(b"none")
    (a / "images" / "z.png").unlink()
    side, to = f"folder:{a}", str(tmp_path / "n.csv")
    with pytest.raises(DataError, match=r"2 of 3 rows of split 'train' are broken \(such as \['y.png', 'z.png'\]\)"):
        overlap(side, side, to)
    assert overlap(side, side, to, max_broken=0.7).of == 1
    assert "2 images of 'train' are left out, such as ['y.png', 'z.png']" in caplog.text


def test_wrong_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side, to = f"folder:{write(tmp_path / 'a', {'x.png': scenes(1)[0]})}", str(tmp_path / "n.csv")
    for options in ({"max_distance": 33}, {"max_distance": -1}, {"min_cosine": 1.5}):
        with pytest.raises(DataError, match="is out of bounds: give bits from 0 to 32"):
            overlap(side, side, to, **options)
    with pytest.raises(
        DataError, match=r"no split \['dev'\]; possible are \['train', 'valid', 'test'\]: set --splits_a"
    ):
        overlap(side, side, to, splits_b=["dev"])
    with pytest.raises(MissingSplitError, match="has no split 'test'"):
        overlap(side, side, to, splits_a=["test"])
    with pytest.raises(DataError, match=r"there is no data source 'foldr' \(did you mean 'folder'"):
        overlap("foldr:x", side, to)
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(DataError, match=r"needs the package imagehash .*: pip install 'rsretrieval\[overlap\]'"):
        overlap(side, side, to)
    assert not Path(to).exists()
