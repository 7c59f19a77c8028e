"""What several tests share: tiny towers and a folder of tiny data in the hub's columns."""

import json
from pathlib import Path

import datasets
import pytest
from PIL import Image

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "plane", "two", "ships", "in", "the", "harbour"]
BERT = {
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def tiny_bert(tmp_path: Path) -> str:
    """Folder of a tiny BERT's configuration and tokeniser."""
    folder = tmp_path / "tinybert"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BERT))
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return str(folder)


@pytest.fixture
def tiny_clip(tmp_path: Path) -> str:
    """Configuration file of a tiny CLIP."""
    (tmp_path / "tinyclip.json").write_text(json.dumps(CLIP))
    return str(tmp_path / "tinyclip.json")


@pytest.fixture
def tiny_data(tmp_path: Path) -> str:
    """Folder of parquet files with 8 training, 5 validation and 3 test images of two captions each."""
    folder = tmp_path / "data"
    folder.mkdir()
    features = datasets.Features(
        {
            "filename": datasets.Value("string"),
            "captions": datasets.List(datasets.Value("string")),
            "image": datasets.Image(),
        }
    )
    for split, rows in (("train", 8), ("valid", 5), ("test", 3)):
        columns = {
            "filename": [f"pond_{n}.png" for n in range(rows)],
            "captions": [[f"the red plane {n} .", "two ships in the harbour ."] for n in range(rows)],
            "image": [Image.new("RGB", (40, 40), (20 * n, 90, 60)) for n in range(rows)],
        }
        table = datasets.Dataset.from_dict(columns, features=features)
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return str(folder)
