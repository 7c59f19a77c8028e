"""Archives that onnxruntime embeds: the model's own rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import vectors, write_pictures

from rsretrieval import Retriever, cli
from rsretrieval.archive import Archive, build_index
from rsretrieval.archive.embedding import embed
from rsretrieval.embeddings import ArchiveError, EmbeddingsFile
from rsretrieval.models import graph_folder
from rsretrieval.models.graphs import GraphError

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")


def refuse(*_: Any) -> None:
    raise AssertionError("exported again")


def test_the_same_archive(entry: str, retriever: Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, to = tmp_path / "images", tmp_path / "onnx"
    write_pictures(images, 11)
    embed(retriever, str(images), tmp_path / "torch", progress=False)
    cli.main(["embed", entry, str(images), "--to", str(to), "--runtime", "onnx", "--workers", "2"])
    wanted, ours = vectors(tmp_path / "torch"), vectors(to)
    assert list(wanted) == list(ours)
    assert min(float(wanted[name] @ ours[name]) for name in wanted) >= 0.9999
    assert EmbeddingsFile(to).about["model"]["digest"] == retriever.digest
    build_index(to)
    answers = Archive.open(to, retriever).search("two ships", k=11).answers
    assert sorted(answer.id for answer in answers) == list(ours)

    monkeypatch.setattr(graph_folder, "write_graphs", refuse)
    write_pictures(images, 2, first=11)
    assert embed(entry, str(images), to, runtime="onnx", progress=False).added == 2
    (folder,) = (tmp_path / "cache" / "onnx").glob("*/")
    graphs = Retriever.from_pretrained(str(folder))
    assert embed(graphs, str(images), to, progress=False).added == 0
    with pytest.raises(ArchiveError, match="leave out --precision bf16-mixed"):
        embed(str(folder), str(images), to, precision="bf16-mixed", progress=False)
    with pytest.raises(GraphError, match="--accelerator cpu"):
        graphs.model.to("cuda")
    with pytest.raises(ArchiveError, match="takes the name of a model"):
        embed(retriever, str(images), to, runtime="onnx", progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_several_processes(entry: str, tmp_path: Path, engine: str, retriever: Retriever) -> None:
    if engine == "ray":
        pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    write_pictures(tmp_path / "images", 9)
    command = [
        sys.executable,
        "-m",
        "rsretrieval",
        "embed",
        entry,
        str(tmp_path / "images"),
        "--to",
        str(tmp_path / "to"),
    ]
    options = ["--runtime", "onnx", "--devices", "2", "--engine", engine, "--batch_size", "4"]
    subprocess.run([*command, *options], check=True, cwd=tmp_path, capture_output=True)
    wanted = retriever.encode_images([tmp_path / "images" / name for name in vectors(tmp_path / "to")])
    ours = np.stack(list(vectors(tmp_path / "to").values()))
    assert (ours * wanted.numpy()).sum(1).min() >= 0.9999
