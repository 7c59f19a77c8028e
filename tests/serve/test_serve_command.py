"""``rsretrieval serve``."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from rsretrieval import cli
from rsretrieval.cli.serve import listening


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Configurations of the servers that would have run."""
    configurations: list[Any] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: configurations.append((self.config, sockets)))
    return configurations


def test_it_serves_what_it_is_told(archive: Path, served: list[Any]) -> None:
    cli.main(["serve", str(archive), "--port=0", "--title=Harbours", "--basemap=https://a.org/{z}/{x}/{y}.png"])
    ((config, _),) = served
    assert (config.access_log, config.proxy_headers, config.server_header) == (False, False, False)
    with TestClient(config.app, base_url="http://localhost") as client:
        about = client.get("/api/archive").json()
        assert (about["title"], about["basemap"]) == ("Harbours", "https://a.org/{z}/{x}/{y}.png")
        assert client.get("/api/search?text=ships").status_code == 200


def test_the_folder_is_the_title(archive: Path, served: list[Any]) -> None:
    cli.main(["serve", str(archive), "--port=0", "--token=a-long-token"])
    with TestClient(served[0][0].app, base_url="http://localhost") as client:
        assert client.get("/api/archive").status_code == 401
        answer = client.get("/api/archive", headers={"Authorization": "Bearer a-long-token"})
        assert answer.json()["title"] == "archive"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(["serve", *map(str, arguments)])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_what_is_missing_is_said_at_the_start(
    archive: Path,
    served: list[Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "is no archive" in refused(capsys, tmp_path / "nowhere", "--port=0")
    copy = shutil.copytree(archive, tmp_path / "further" / "down" / "archive")
    assert "served-model0/model" in refused(capsys, copy, "--port=0")  # to where its model is not
    assert "nowhere" in refused(capsys, archive, "--port=0", f"--model={tmp_path / 'nowhere'}")
    assert "digest" in refused(capsys, archive, "--port=0", "--model=rsicd-lite")
    assert "no index of kind hnsw" in refused(capsys, archive, "--port=0", "--kind=hnsw")
    shutil.rmtree(copy / "index")
    assert "rsretrieval index" in refused(capsys, copy, "--port=0")
    assert "--token" in refused(capsys, archive, "--host=0.0.0.0", "--port=0")
    assert "no address of map tiles" in refused(capsys, archive, "--basemap=here", "--port=0")
    with listening("127.0.0.1", 0) as taken:
        assert "another --port" in refused(capsys, archive, f"--port={taken.getsockname()[1]}")
    assert "another --port or --host" in refused(capsys, archive, "--host=203.0.113.1", "--token=a-long-token")
    monkeypatch.setitem(sys.modules, "fastapi", None)  # as if it were not installed
    assert "pip install 'rsretrieval[serve]'" in refused(capsys, archive, "--port=0")
    assert served == []


def test_addresses_of_the_next_version_of_the_protocol() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with listening("::1", 0) as listener:
        assert listener.family == socket.AF_INET6


@pytest.mark.slow
def test_a_process_serves_and_ends(archive: Path) -> None:
    with listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "rsretrieval", "serve", str(archive), f"--port={port}"]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/search?text=ships") as answer:
                    assert len(json.load(answer)["results"]) == 40
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        process.wait(20)
        assert b"Traceback" not in process.stderr.read()  # type: ignore[union-attr]
