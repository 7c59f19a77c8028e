"""The command line without training: help, version, configurations by name, mistakes; and how quick it is to start."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lightning import Callback

import rsretrieval
from rsretrieval import cli
from rsretrieval.cli.configs import find, resolve, shipped
from rsretrieval.cli.monitors import MonitorError
from rsretrieval.models.checkpoint import CheckpointError

CONFIGS = Path(__file__).parents[1] / "configs"


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {command}" in shown for command in cli.COMMANDS)
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.split() == ["rsretrieval", rsretrieval.__version__]
    for wrong in ([], ["fitt"]):
        with pytest.raises(SystemExit) as end:
            cli.main(wrong)
        assert end.value.code == 2
    assert "invalid choice: 'fitt'" in capsys.readouterr().err


def test_configurations_by_name_and_a_path_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [file for file in CONFIGS.rglob("*.yaml") if file.parent.name != "sweeps"]
    assert set(shipped()) == {file.relative_to(CONFIGS).with_suffix("").as_posix() for file in files}
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
    (tmp_path / "broken.yaml").write_text("trainer: [")
    with pytest.raises(ValueError, match=r"'broken\.yaml' is no YAML"):
        resolve(["fit", "-c", "broken.yaml"])
    (tmp_path / "broken.yaml").write_text("- 1")
    with pytest.raises(ValueError, match=r"'broken\.yaml' is no configuration: it holds a list"):
        resolve(["fit", "-c", "broken.yaml"])
    (tmp_path / "broken.yaml").write_text("data:\n  seed: 1\n  path: x\n  seed: 2\n")
    with pytest.raises(ValueError, match=r"'broken\.yaml', line 4: 'seed' is there twice"):
        resolve(["fit", "-c", "broken.yaml"])
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert resolve(["fit", "-c", "empty.yaml"]) == (["fit", "--config", "{}"], [{}])
    with pytest.raises(FileNotFoundError, match=r"no configuration ''"):
        resolve(["fit", "-c"])


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


def test_heavy_imports_come_where_they_are_used() -> None:
    """What is not imported cannot be slow: checked by names, not by a clock."""
    program = (
        "import sys\n"
        "from rsretrieval import cli\n"
        "for arguments in (['--help'], ['data', 'list'], ['data', '--help'], ['data', 'prepare', '--help'],\n"
        "                  ['export', '--help'], ['models', 'list'], ['models', '--help']):\n"
        "    try: cli.main(arguments)\n"
        "    except SystemExit as end: assert not end.code, arguments\n"
        "heavy = {'torch', 'lightning', 'datasets', 'pyarrow', 'pandas', 'transformers', 'timm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_the_users_errors_are_messages_and_ours_are_tracebacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "rsretrieval", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    status, said = run("fit", "-c", "rsicd_large")
    assert status == 1
    assert said.startswith(
        "rsretrieval: FileNotFoundError: there is no configuration 'rsicd_large': give a file, or one"
    )
    assert "Traceback" not in said
    monkeypatch.setattr("sys.argv", ["rsretrieval", "fit", "-c", "rsicd_large"])
    monkeypatch.setenv("RSRETRIEVAL_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):  # which Python shows with its traceback
        cli.entry()
    monkeypatch.delenv("RSRETRIEVAL_TRACEBACK")
    (tmp_path / "broken.ckpt").write_bytes(b"no checkpoint")
    status, said = run("export", "broken.ckpt", "--to", "x")
    assert status == 1
    assert "CheckpointError: 'broken.ckpt' cannot be read as a checkpoint" in said
    for error, expected in ((KeyError("x"), False), (TypeError("x"), False), (ValueError("x"), False)):
        assert cli._is_for_user(_raised(error)) is expected  # raised here, not by the package
    assert cli._is_for_user(CheckpointError("x"))
    assert cli._is_for_user(_raised(NotADirectoryError(20, "Not a directory", "a/b")))  # whoever raised it


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_null_as_sweep_agents_write_it() -> None:
    arguments = ["fit", "--model.encoder.chunk_size=None", "--data.seed", "None", "--data.path=None/x"]
    assert resolve(arguments)[0] == [
        "fit",
        "--model.encoder.chunk_size=null",
        "--data.seed",
        "null",
        "--data.path=None/x",
    ]


def test_a_figure_that_never_comes_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    small = ["fit", "-c", "quickstart", f"--trainer.default_root_dir={tmp_path / 'run'}", "--trainer.max_epochs=0"]
    with pytest.raises(MonitorError, match=r"ModelCheckpoint monitors 'val/mr', which never comes, meant is .* val/mR"):
        cli.main([*small, "--checkpoint.monitor=val/mr"])
    stop = '{"class_path": "EarlyStopping", "init_args": {"monitor": "train/triplet"}}'
    with pytest.raises(MonitorError, match=r"EarlyStopping monitors 'train/triplet'.*'train/affiliation'"):
        cli.main([*small, f"--trainer.callbacks={stop}"])
    cli.main(
        [*small, f"--trainer.callbacks={stop.replace('triplet', 'contrastive')}", "--checkpoint.monitor=val/t2i_R@1"]
    )
    cli.main([*small, f"--trainer.callbacks={stop.replace('train/triplet', 'data/skipped')}"])
    own = json.dumps({"class_path": f"{__name__}.LogsMore"})  # may log anything
    cli.main([*small, f"--trainer.callbacks={own}", "--checkpoint.monitor=val/mine"])


class LogsMore(Callback):
    """A callback of a user's."""
