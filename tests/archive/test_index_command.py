"""``rsretrieval index`` as it is called."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from searched import unit, write_archive

from rsretrieval.archive.index import open_index
from rsretrieval.cli import main
from rsretrieval.embeddings import ArchiveError


def test_an_archive_is_indexed_changed_and_merged(tmp_path: Path, capsys: Any) -> None:
    vectors, a, b = unit(30, 8), tmp_path / "a", tmp_path / "b"
    write_archive(a, vectors[:20])
    write_archive(b, vectors[20:])
    main(["index", str(a)])
    said = capsys.readouterr().out
    assert said.startswith("flat: 20 rows, 20 added, 0 removed; recall@10 1.0000 by 20 rows; ")
    assert said.endswith(f" s, {open_index(a).report.bytes / 1e6:.1f} MB\n")
    (tmp_path / "ids.txt").write_text("00003.png\n\n00004.png\n")
    main(["index", str(a), "--remove", str(tmp_path / "ids.txt"), "--merge", str(b), "--sample", "7"])
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "removed from the archive: 2 rows"
    assert second == f"taken from '{b}': 10 rows"
    assert third.startswith("flat: 28 rows, 10 added, 2 removed; recall@10 1.0000 by 7 rows")
    main(["index", str(a), "--remove", "00005.png", "00006.png"])
    assert "flat: 26 rows, 0 added, 2 removed" in capsys.readouterr().out
    index = open_index(a)
    ids = index.embeddings.information(["id"]).column("id").to_pylist()
    best = [ids[row] for row in index.rows_of(index.index.search(vectors[[0, 25]], 1)[1][:, 0])]
    assert best == ["00000.png", "../b/00005.png"]
    main(["index", str(a), "--rebuild", "true"])
    assert "26 added, 0 removed (built anew: as asked)" in capsys.readouterr().out


def test_a_kind_takes_its_options(tmp_path: Path, capsys: Any) -> None:
    write_archive(tmp_path, unit(60, 8))
    main(["index", str(tmp_path), "--kind", "hnsw", "--options.m", "8", "--options.ef_search", "50"])
    assert "hnsw: 60 rows, 60 added" in capsys.readouterr().out
    assert open_index(tmp_path).report.options == {"m": 8, "ef_construction": 200, "ef_search": 50}
    main(["index", str(tmp_path), "--kind", "lancedb", "--options.uri", str(tmp_path / "elsewhere")])
    assert "lancedb: 60 rows, 60 added" in capsys.readouterr().out
    assert list((tmp_path / "elsewhere").glob("rows-*.lance"))
    assert not (tmp_path / "index" / "lancedb" / "data").exists()
    assert np.isin(open_index(tmp_path).index.search(unit(5, 8), 3)[1], open_index(tmp_path).keys).all()


def test_a_plugin_brings_a_kind(tmp_path: Path, capsys: Any) -> None:
    write_archive(tmp_path, unit(10, 8))
    (tmp_path / "mine.py").write_text(
        "from rsretrieval.archive.index import register_index\n"
        "from rsretrieval.archive.index.faiss_kinds import Flat\n"
        "@register_index('mine')\n"
        "class Mine(Flat):\n    pass\n"
    )
    main(["index", str(tmp_path), "--kind", "mine", "--plugins", str(tmp_path / "mine.py")])
    assert capsys.readouterr().out.startswith("mine: 10 rows")


def test_wrong_input_is_told(tmp_path: Path) -> None:
    write_archive(tmp_path, unit(10, 8))
    for arguments, message in (
        ([str(tmp_path / "no")], "no archive"),
        ([str(tmp_path), "--remove", "nobody.png"], "no row of the ids 'nobody.png'"),
        ([str(tmp_path), "--remove", str(tmp_path / "no.txt")], r"--remove: .* cannot be read"),
        ([str(tmp_path), "--merge", str(tmp_path)], "one archive"),
        ([str(tmp_path), "--options.m", "3"], "flat has no option 'm'; it has none at all"),
        ([str(tmp_path), "--sample", "0"], "sample=0"),
    ):
        with pytest.raises(ArchiveError, match=message):
            main(["index", *arguments])
