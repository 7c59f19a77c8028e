"""A bank of queries for a model that has none: what is in it, the folder with it, and what is corrected by it."""

import logging
from pathlib import Path

import pytest
import torch
from pairs import write_entry
from torch.nn.functional import normalize

from rsretrieval import Retriever, cli
from rsretrieval.cli.bank import read_captions
from rsretrieval.data import Columns, DataError, RetrievalDataModule, build_source
from rsretrieval.metrics import HubnessConfig, hubness_corrected_recall
from rsretrieval.metrics import hub_bias as bias_of
from rsretrieval.models.query_bank import QueryBank, sample

CAPTIONS = ["Two planes.", "A harbour with ships", "two planes.", "A beach"]


@pytest.fixture
def pair(tmp_path: Path) -> str:
    return write_entry(tmp_path)


@pytest.fixture
def captions(tmp_path: Path) -> str:
    (tmp_path / "captions.txt").write_text("\ufeff" + "\n".join([*CAPTIONS[:2], "", " ... ", *CAPTIONS[2:]]))
    return str(tmp_path / "captions.txt")


def test_a_choice_by_seed() -> None:
    assert sample(5, 9, 0) == [0, 1, 2, 3, 4]
    chosen = sample(100, 10, 3)
    assert chosen == sorted(set(chosen)) == sample(100, 10, 3)
    assert len(chosen) == 10
    assert set(chosen) <= set(range(100))
    assert chosen != sample(100, 10, 4)
    with pytest.raises(ValueError, match=r"--size 0 is too small: give a number of queries, 1 or more"):
        sample(5, 0, 0)


def test_a_bank_holds_what_it_is_given() -> None:
    text, image = normalize(torch.randn(5, 3), dim=1), normalize(torch.randn(2, 3), dim=1)
    bank = QueryBank.holding(text, image)
    assert [part.tolist() for part in bank.queries()] == [image.tolist(), text.tolist()]
    again = QueryBank(5, 3)
    again.load_state_dict(bank.state_dict())
    assert again.of("images").equal(image)
    alone = QueryBank.holding(text)
    assert alone.of("texts").equal(text)
    assert [len(part) for part in alone.queries()] == [0, 5]
    with pytest.raises(ValueError, match="query bank has no images: it was made of captions alone"):
        alone.of("images")
    with pytest.raises(ValueError, match=r"no queries 'sounds'; possible are \['images', 'texts'\]"):
        alone.of("sounds")
    alone.remember(image, text[:2])  # training goes on: in place of the oldest
    assert alone.of("images").equal(image)
    assert alone.of("texts").equal(torch.cat([text[:2], text[2:]]))


def test_a_side_without_queries_stays_uncorrected(caplog: pytest.LogCaptureFixture) -> None:
    image, text, queries = (normalize(torch.randn(n, 4), dim=1) for n in (6, 6, 9))
    config = HubnessConfig("csls", neighbours=3)
    own = {"owners": torch.arange(6), "config": config, "ties": "expected"}
    figures = hubness_corrected_recall(image=image, text=text, bank=(queries[:0], queries), **own)
    assert "no queries to tell hubs among the captions by, so their scores are not corrected" in caplog.text
    scores = text @ image.T - bias_of(queries, image, config)
    ranks = (scores >= scores.diagonal()[:, None]).sum(1)
    plain = image @ text.T
    assert figures["t2i_R@1"] == pytest.approx(100 * float((ranks == 1).float().mean()), abs=1e-4)
    plain_ranks = (plain >= plain.diagonal()[:, None]).sum(1)
    assert figures["i2t_R@1"] == pytest.approx(100 * float((plain_ranks == 1).float().mean()), abs=1e-4)


def test_captions_of_a_file(
    pair: str, captions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cli.main(["bank", pair, f"--captions={captions}", f"--to={tmp_path / 'to'}"])
    assert "a bank of 4 captions and 0 images; the model with it:" in capsys.readouterr().out
    assert "captions.txt' without a word are left out: 1" in caplog.text
    assert "there are 4 captions, fewer than --size 2048: all are taken" in caplog.text
    before, after = Retriever.from_pretrained(pair), Retriever.from_pretrained(str(tmp_path / "to"))
    assert after.model.bank is not None
    embeddings = before.encode_texts(CAPTIONS)
    torch.testing.assert_close(after.model.bank.of("texts"), embeddings, atol=5e-4, rtol=0)  # in half precision
    torch.testing.assert_close(after.encode_texts(CAPTIONS), embeddings, atol=5e-3, rtol=0)
    gallery = normalize(torch.randn(5, embeddings.shape[1]), dim=1)
    expected = bias_of(embeddings, gallery, HubnessConfig("dual_softmax"))
    torch.testing.assert_close(after.hub_bias(gallery), expected, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="query bank has no images"):
        after.hub_bias(gallery, "images")
    with pytest.raises(ValueError, match=r"no query bank: .* give it one by `rsretrieval bank`"):
        before.hub_bias(gallery)


def test_images_and_captions_of_a_split(pair: str, tiny_data: str, tmp_path: Path) -> None:
    arguments = [f"--captions=parquet:{tiny_data}", "--split=train", "--size=6", "--seed=1"]
    cli.main(["bank", pair, *arguments, f"--to={tmp_path / 'one'}"])
    cli.main(["bank", str(tmp_path / "one"), *arguments, f"--to={tmp_path / 'two'}"])  # in place of the first
    bank, again = (Retriever.from_pretrained(str(tmp_path / name)).model.bank for name in ("one", "two"))
    assert bank is not None
    assert again is not None
    retriever, source = Retriever.from_pretrained(pair), build_source("parquet", tiny_data, Columns())
    records = source.records("train")
    captions = [(row, text) for row, record in enumerate(records) for text in record.captions]
    chosen = [captions[number] for number in sample(16, 6, 1)]
    text = retriever.encode_texts([text for _, text in chosen])
    data = RetrievalDataModule("parquet", tiny_data)
    pictures = [data.stream("train").image(row) for row, _ in chosen]  # of each caption its image
    torch.testing.assert_close(bank.of("texts"), text, atol=5e-4, rtol=0)
    torch.testing.assert_close(bank.of("images"), retriever.encode_images(pictures), atol=5e-4, rtol=0)
    torch.testing.assert_close(again.of("images"), bank.of("images"), atol=5e-3, rtol=0)


def test_test_takes_the_bank(pair: str, tiny_data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cli.main(["bank", pair, f"--captions=parquet:{tiny_data}", f"--to={tmp_path / 'to'}"])
    cli.main([
        "test", f"--model.pretrained={tmp_path / 'to'}", "--model.hubness.queries=bank", "--data.source=parquet",
        f"--data.path={tiny_data}", f"--trainer.default_root_dir={tmp_path / 'run'}", "--trainer.accelerator=cpu",
        "--data.num_workers=0", "--trainer.logger=false", "--report.queries=0",
    ])  # fmt: skip
    assert "test, corrected for hubs by the query bank" in caplog.text


def test_wrong_input(pair: str, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n...\n")
    to = f"--to={tmp_path / 'to'}"
    with pytest.raises(DataError, match=r"empty\.txt' holds no caption with a word in it: give one a line"):
        cli.main(["bank", pair, f"--captions={tmp_path / 'empty.txt'}", to])
    with pytest.raises(DataError, match=r"gone\.txt' cannot be read .*give a text file, one caption a line"):
        cli.main(["bank", pair, "--captions=gone.txt", to])
    with pytest.raises(DataError, match=r"there is no data source 'rsicdd' .did you mean 'rsicd'"):
        cli.main(["bank", pair, "--captions=rsicdd", to])
    for name, instead in {
        "a.json": "folder:", "a.JSONL": "folder:", "a.csv": "folder:", "a.tsv": "folder:", "a.parquet": "parquet:",
    }.items():  # fmt: skip
        (tmp_path / name).write_text("filename,title")
        given = tmp_path if instead == "parquet:" else tmp_path / name
        with pytest.raises(DataError, match=rf"'{tmp_path / name}' is a table, .* as a data set, {instead}{given} "):
            cli.main(["bank", pair, f"--captions={tmp_path / name}", to])
    for name in ("a", "a.lst"):
        (tmp_path / name).write_text("a pond")
        assert read_captions(tmp_path / name) == ["a pond"]
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match=r"latin\.txt' cannot be read"):
        read_captions(tmp_path / "latin.txt")
    (tmp_path / "one.txt").write_text("a pond")
    with pytest.raises(ValueError, match="--size 0 is too small"):
        cli.main(["bank", pair, f"--captions={tmp_path / 'one.txt'}", "--size=0", to])
    assert not (tmp_path / "to").exists()
