"""The command line without training: help, version, configurations by name, mistakes; and how quick it is to start."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import rsretrieval
from rsretrieval import cli
from rsretrieval.cli.configs import find, resolve, shipped

CONFIGS = Path(__file__).parents[1] / "configs"


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {command} " in shown for command in cli.COMMANDS)
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.split() == ["rsretrieval", rsretrieval.__version__]
    for wrong in ([], ["fitt"]):
        with pytest.raises(SystemExit) as end:
            cli.main(wrong)
        assert end.value.code == 2
    assert "invalid choice: 'fitt'" in capsys.readouterr().err


def test_configurations_by_name_and_a_path_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(shipped()) == {file.stem for file in CONFIGS.glob("*.yaml")}
    for name in ("quickstart", "quickstart.yaml"):
        assert find(name).samefile(CONFIGS / "quickstart.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text("trainer: {max_epochs: 3}")
    arguments, contents = resolve(["fit", "-c", "quickstart", "--config=rsicd", "-c", '{"data": {"seed": 1}}'])
    assert contents[0] == {"trainer": {"max_epochs": 3}}
    assert arguments[:3] == ["fit", "--config", "quickstart"]
    assert Path(arguments[4]).samefile(CONFIGS / "rsicd.yaml")
    assert arguments[5:] == ["--config", '{"data": {"seed": 1}}']
    with pytest.raises(
        FileNotFoundError, match=r"no configuration 'rsicd_large': give a file, or one of \['quickstart'"
    ):
        resolve(["fit", "-c", "rsicd_large"])


def test_wrong_settings_are_refused_when_they_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    for argument, message in (
        ("--model.encoder.text.pooling=levles", "levles"),
        ("--model.encoder.embedding=3", "embedding"),
        ("--model.hubness.method=nearest", "nearest"),
        ("--data.batch_size=many", "many"),
    ):
        with pytest.raises((SystemExit, ValueError)) as end:
            cli.main(["fit", "-c", "quickstart", argument, "--trainer.max_epochs=0"])
        assert message in capsys.readouterr().err + str(end.value)


def seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - start


def test_heavy_imports_come_where_they_are_used() -> None:
    """What is not imported cannot be slow: checked by names, not by a clock."""
    program = (
        "import sys\n"
        "from rsretrieval import cli\n"
        "for arguments in (['--help'], ['data', 'list'], ['data', '--help'], ['data', 'prepare', '--help'],\n"
        "                  ['export', '--help']):\n"
        "    try: cli.main(arguments)\n"
        "    except SystemExit as end: assert not end.code, arguments\n"
        "heavy = {'torch', 'lightning', 'datasets', 'pyarrow', 'pandas', 'transformers', 'timm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
