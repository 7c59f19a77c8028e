"""What a model would take for something else is refused where it comes in."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rsretrieval import Retriever, TowerConfig
from rsretrieval.models import DualEncoder
from rsretrieval.models.inputs import on_device

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DualEncoder:
    bert = tiny.write_bert(tmp_path_factory.mktemp("bert"))
    image = TowerConfig("timm", "test_resnet")
    return tiny.encoder(image, TowerConfig("transformers", bert), image_size=32, embed_dim=8).eval()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.half])
def test_images_in_every_form_that_is_taken(model: DualEncoder, dtype: torch.dtype) -> None:
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    images = pixels if dtype == torch.uint8 else pixels.to(dtype) / 255
    torch.testing.assert_close(model.encode_image(images), model.encode_image(pixels), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((1, 3, 32, 32), 255), r"\(B, 3, H, W\) of uint8, or of floats in \[0, 1\], not of torch\.int64"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.bool), r"not of torch\.bool"),
        (torch.full((1, 3, 32, 32), 255.0), r"these go from 255 to 255: divide by 255"),
        (torch.full((1, 3, 32, 32), -2.0), r"these go from -2 to -2"),
        (torch.zeros(1, 32, 32, 3), r"not of the shape \(1, 32, 32, 3\)"),
        (torch.zeros(3, 32, 32), r"not of the shape \(3, 32, 32\)"),
        (np.zeros((1, 3, 32, 32), np.uint8), "not a ndarray: give pictures to Retriever"),
        ([Image.new("RGB", (32, 32))], "not a list"),
    ],
)
def test_what_is_no_batch_of_images(model: DualEncoder, images: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        model.encode_image(images)


def test_nothing_gives_no_embeddings(model: DualEncoder) -> None:
    assert model.encode_image(torch.zeros(0, 3, 32, 32)).shape == model.encode_text([]).shape == (0, 8)


def test_one_text_is_not_its_letters(model: DualEncoder) -> None:
    with pytest.raises(TypeError, match=r"takes a list of texts, not one str: give \[text\]"):
        model.encode_text("a red plane")


@pytest.mark.parametrize("size", [0, -1, 1.5, None, "8"])
def test_a_batch_size_that_is_none(model: DualEncoder, size: Any) -> None:
    retriever = Retriever(model, 32)
    for encode, item in ((retriever.encode_images, Image.new("RGB", (9, 9))), (retriever.encode_texts, "a red plane")):
        with pytest.raises(ValueError, match=r"batch_size=.*give a whole number, 1 or more"):
            encode([item], batch_size=size)
    assert retriever.encode_texts(["a red plane"], batch_size=np.int64(1)).shape == (1, 8)


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(ValueError, match=rf"this machine has no device '{device}' \(.+\): give cpu"):
        on_device(torch.nn.Linear(1, 1), device)
