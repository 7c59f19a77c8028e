"""A stand-in for W&B's server on 127.0.0.1, as far as sweeps need one: ``wandb sweep``, ``wandb agent`` and their runs.

It hands out the combinations of a sweep's ``values`` in order, takes the figures that the runs send, tells an agent to
stop a trial that Hyperband gives up, and notes how each trial ended. Nothing of a real server's search is in it.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

SWEEP, AGENT, ENTITY, PROJECT = "sw33p", "QWdlbnQ=", "me", "p"
VIEWER = {
    "id": "VXNlcjox", "entity": ENTITY, "username": ENTITY, "flags": "{}", "admin": False, "name": ENTITY,
    "email": "me@localhost", "teams": {"edges": []}, "apiKeys": {"edges": []},
}  # fmt: skip


@dataclass
class Trial:
    """A run that was handed out.

    Attributes:
        settings: that the agent got.
        state: ``running``, ``finished``, ``crashed`` or ``stopped`` (told to).
        figures: of the sweep's metric, in the order in which the run sent them.
        config: of the run, as it sent it.
    """

    settings: dict[str, Any]
    state: str = "running"
    figures: list[float] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)


class Sweeps(ThreadingHTTPServer):
    """The server; ``trials`` by the names of their runs."""

    daemon_threads = True

    def __init__(self, most: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.most, self.trials, self.operations = most, dict[str, Trial](), list[str]()
        self.sweep: dict[str, Any] = {}
        self.lock = threading.RLock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of an answer in GraphQL."""
        if operation == "UpsertSweep":
            self.sweep = yaml.safe_load(variables["config"])
            project = {"name": PROJECT, "entity": {"name": ENTITY, "defaultEntity": {"name": ENTITY}}}
            sweep = {"name": SWEEP, "id": "U3dlZXA=", "project": project, "config": variables["config"]}
            return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}
        if operation == "CreateAgent":
            return {"createAgent": {"agent": {"id": AGENT}}}
        if operation == "Heartbeat":
            commands = self._commands(json.loads(variables["runState"]))
            return {"agentHeartbeat": {"agent": {"id": AGENT}, "commands": json.dumps(commands)}}
        if operation == "UpsertBucket":
            return {"upsertBucket": {"bucket": self._bucket(variables), "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "UnVu", "uploadHeaders": [], "files": files}}
        if operation == "RunStoppedStatus":
            return {"project": {"run": {"stopped": False}}}
        return self._questions()

    def _questions(self) -> dict[str, Any]:
        sweep = {
            "id": "U3dlZXA=", "name": SWEEP, "method": "grid", "state": "RUNNING", "description": None,
            "config": yaml.safe_dump(self.sweep), "createdAt": "2026-01-01T00:00:00", "heartbeatAt": None,
            "updatedAt": None, "earlyStopJobRunning": False, "controller": None, "scheduler": None,
            "runs": {"edges": []}, "runCount": 0, "displayName": None, "priorRuns": {"edges": []}, "bestLoss": None,
            "prefillRuns": {"edges": []}, "user": VIEWER, "agents": {"edges": []},
        }  # fmt: skip
        versions = {"max_cli_version": "99.9.9", "min_cli_version": "0.1.0"}
        info = {"cliVersionInfo": versions, "latestLocalVersionInfo": None, "features": []}
        return {
            "viewer": VIEWER,
            "serverInfo": info,
            "entity": {"name": ENTITY},
            "project": {"sweep": sweep},
            "model": None,
        }

    def _bucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables.get("name") or ""
        if name in self.trials and variables.get("config"):
            sent = json.loads(variables["config"])
            self.trials[name].config |= {key: one["value"] for key, one in sent.items() if key != "_wandb"}
        project = {"id": "UHJvamVjdA==", "name": PROJECT, "entity": {"id": "RW50aXR5", "name": ENTITY}}
        return {
            "id": f"UnVuOg{name}", "name": name, "displayName": name, "description": "", "config": "{}",
            "sweepName": SWEEP, "project": project, "historyLineCount": 0, "logLineCount": 0, "eventsLineCount": 0,
            "summaryMetrics": "{}", "tags": [], "notes": None, "group": None, "jobType": None, "host": None,
        }  # fmt: skip

    def _commands(self, alive: dict[str, bool]) -> list[dict[str, Any]]:
        with self.lock:
            for name, trial in self.trials.items():
                if name in alive and self._is_bad(trial):
                    trial.state = "stopped"
                    return [{"type": "stop", "run_id": name}]
            if alive:
                return []
            for trial in self.trials.values():  # of an agent that was killed
                trial.state = "crashed" if trial.state == "running" else trial.state
            if len(self.trials) == self.most:
                return [{"type": "exit"}]
            name = f"run{len(self.trials) + 1:04d}"
            parameters = {key: one.get("values", [one.get("value")]) for key, one in self.sweep["parameters"].items()}
            drawn = list(itertools.product(*parameters.values()))[len(self.trials)]
            self.trials[name] = Trial(dict(zip(parameters, drawn, strict=True)))
            arguments = {key: {"value": value} for key, value in self.trials[name].settings.items()}
            return [{"type": "run", "run_id": name, "args": arguments, "program": self.sweep.get("program")}]

    def _is_bad(self, trial: Trial) -> bool:
        """Whether a trial has had a figure, from ``min_iter`` on, that is no better than the best of another trial."""
        rule = self.sweep.get("early_terminate")
        if rule is None or trial.state != "running":
            return False
        others = [figure for one in self.trials.values() if one is not trial for figure in one.figures]
        return bool(others) and any(figure <= max(others) for figure in trial.figures[rule["min_iter"] - 1 :])

    def stream(self, name: str, content: dict[str, Any]) -> None:
        """What a run sends as it goes: its figures, and how it ended."""
        trial = self.trials.get(name)
        if trial is None:
            return
        with self.lock:
            for line in content.get("files", {}).get("wandb-history.jsonl", {}).get("content", []):
                row = json.loads(line)
                if (metric := self.sweep["metric"]["name"]) in row:
                    trial.figures.append(row[metric])
            if content.get("complete") and trial.state == "running":
                trial.state = "crashed" if content.get("exitcode") else "finished"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Sweeps

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._reply({})

    do_HEAD = do_GET  # noqa: N815 - the names of HTTP's methods

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._reply({})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        if match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self.server.stream(match[1], json.loads(raw))
            self._reply({})
            return
        if not self.path.startswith("/graphql"):
            self._reply({})
            return
        asked = json.loads(raw)
        named = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
        operation = named[1] if named else ""
        self.server.operations.append(operation)
        self._reply({"data": self.server.answer(operation, asked.get("variables") or {})})

    def _reply(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def local_sweeps(most: int) -> Iterator[Sweeps]:
    """A server that hands out so many trials."""
    server = Sweeps(most)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
