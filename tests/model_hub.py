"""A stand-in for the Hugging Face hub on 127.0.0.1 that models can be pushed to, by the routes of the real client.

One owner, by one token. Files of weights go the way of large ones (LFS): a batch, a PUT, a commit of their checksum;
they are answered by a redirect to another host, as the hub's CDN is. Not covered: Xet storage, pull requests, branches,
rate limits.
PyYAML reads the cards; all else is Python's own.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

OWNER, TOKEN = "acme", "hf_0123456789abcdefghijklmnopqrstuv"
LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "other")
LARGE = (".safetensors", ".bin", ".pt")


@dataclass
class Commit:
    """A state of a repository."""

    oid: str
    message: str
    files: dict[str, bytes]


@dataclass
class Repository:
    private: bool
    commits: list[Commit]


@dataclass
class Hub:
    """What the server holds, and what it was asked."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


class RefusalError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str, code: str = "", **content: Any) -> None:
        self.status, self.message, self.code, self.content = status, message, code, content


def _oid(name: str, data: bytes) -> str:
    """As git and LFS tell whether a file is the same."""
    return (
        hashlib.sha256(data).hexdigest()
        if name.endswith(LARGE)
        else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    )


def _check_card(content: str) -> None:
    """The hub's rules for what a card begins with, as far as they concern models."""
    wrong = []
    try:
        front = yaml.safe_load(content.split("---")[1]) if content.startswith("---") else {}
    except yaml.YAMLError as error:
        front, wrong = {}, [f"YAML: {error}"]
    if front.get("license", "other") not in LICENCES:
        wrong.append(f'"license" must be one of {LICENCES}')
    wrong += [
        f'"{name}" must be a list'
        for name in ("tags", "datasets", "metrics")
        if not isinstance(front.get(name, []), list)
    ]
    for index in front.get("model-index", []):
        for result in index["results"]:
            if not (result["task"].get("type") and {"name", "type"} <= result["dataset"].keys() and result["metrics"]):
                wrong.append('"model-index" has a result without task, dataset or metrics')
            if not all({"type", "value"} <= metric.keys() for metric in result["metrics"]):
                wrong.append('"model-index" has a metric without type or value')
    if wrong:
        raise RefusalError(400, "invalid metadata", errors=[{"message": message} for message in wrong])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]

    def _answer(self) -> None:
        self.hub.requests.append(f"{self.command} {urlsplit(self.path).path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self._route(unquote(urlsplit(self.path).path))
        except RefusalError as answer:
            content = json.dumps({"error": answer.message, **answer.content}).encode()
            self._send(answer.status, content, X_Error_Message=answer.message, X_Error_Code=answer.code)

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815 - http.server's names

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), Content_Type="application/json")

    def _user(self) -> str | None:
        """Whose token came; None without one."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in ("", TOKEN):
            raise RefusalError(401, "Invalid credentials in Authorization header")
        return OWNER if token else None

    def _may_write(self, owner: str) -> None:
        if self._user() is None:
            raise RefusalError(401, "Invalid username or password.")
        if self._user() != owner:
            raise RefusalError(403, f"You don't have the rights to write under the namespace {owner}")

    def _repository(self, name: str) -> Repository:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and self._user() is None):
            raise RefusalError(404 if self._user() else 401, "Repository not found", "RepoNotFound")
        return repository

    def _route(self, path: str) -> None:
        if path.startswith("/cdn/"):
            if self.headers.get("Authorization"):
                raise RefusalError(400, "a token came to another host")
            return self._send(200, self.hub.large[path.rpartition("/")[2]])
        if path.startswith("/lfs/"):
            oid = path.rpartition("/")[2]
            if self.command == "PUT" and hashlib.sha256(self.body).hexdigest() != oid:
                raise RefusalError(422, "other bytes than were announced")
            self.hub.large[oid] = self.body if self.command == "PUT" else self.hub.large[oid]
            return self._send(200)
        if path == "/api/repos/create":
            return self._create(json.loads(self.body))
        if path == "/api/validate-yaml":
            _check_card(json.loads(self.body)["content"])
            return self._json({"warnings": [], "errors": []})
        if match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._batch(match[1])
        if match := re.fullmatch(r"/(?:api/models/)?([^/]+/[^/]+)(?:/(\w+)/([^/]+)(?:/(.*))?)?", path):
            return self._of_repository(*match.groups())
        raise RefusalError(404, f"no such route: {path}")

    def _create(self, asked: dict[str, Any]) -> None:
        owner = asked.get("organization") or OWNER
        self._may_write(owner)
        name = f"{owner}/{asked['name']}"
        if name in self.hub.repositories:
            raise RefusalError(409, "You already created this model repo", url=f"{self.base}/{name}")
        first = Commit("0" * 40, "initial commit", {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.hub.repositories[name] = Repository(asked.get("visibility") == "private", [first])
        self._json({"url": f"{self.base}/{name}", "name": name})

    def _batch(self, name: str) -> None:
        self._may_write(name.partition("/")[0])
        objects = []
        for one in json.loads(self.body)["objects"]:
            there = one["oid"] in self.hub.large
            ways = {way: {"href": f"{self.base}/lfs/{one['oid']}"} for way in ("upload", "verify")}
            objects.append({**one} if there else {**one, "actions": ways})
        self._json({"transfer": "basic", "objects": objects})

    def _of_repository(self, name: str, what: str | None, revision: str | None, path: str | None) -> None:
        repository = self._repository(name)
        if what in ("preupload", "commit"):
            self._may_write(name.partition("/")[0])
            return self._preupload(repository) if what == "preupload" else self._commit(name, repository)
        revision = repository.commits[-1].oid if revision in (None, "main") else revision
        commit = next((one for one in repository.commits if one.oid == revision), None)
        if commit is None:
            raise RefusalError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        if what == "tree":
            return self._json([self._entry(*one) for one in commit.files.items()])
        if what == "resolve":
            return self._file(commit, path or "")
        siblings = [{"rfilename": one} for one in commit.files]
        return self._json({"_id": "0" * 24, "id": name, "sha": commit.oid, "private": repository.private,
                           "tags": [], "siblings": siblings})  # fmt: skip

    @staticmethod
    def _entry(name: str, data: bytes) -> dict[str, Any]:
        entry = {"type": "file", "path": name, "oid": _oid(name, data), "size": len(data)}
        large = {"lfs": {"oid": _oid(name, data), "size": len(data), "pointerSize": 134}}
        return entry | (large if name.endswith(LARGE) else {})

    def _preupload(self, repository: Repository) -> None:
        files, there = json.loads(self.body)["files"], repository.commits[-1].files
        self._json({"files": [{
            "path": one["path"], "shouldIgnore": False,
            "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular",
            "oid": _oid(one["path"], there[one["path"]]) if one["path"] in there else None,
        } for one in files]})  # fmt: skip

    def _commit(self, name: str, repository: Repository) -> None:
        files, message = dict(repository.commits[-1].files), ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.hub.large:
                    raise RefusalError(400, f"the bytes of {value['path']} were not sent")
                files[value["path"]] = self.hub.large[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
            else:
                raise RefusalError(400, f"unknown operation {item['key']}")
        oid = hashlib.sha1(f"{name} {len(repository.commits)}".encode()).hexdigest()
        repository.commits.append(Commit(oid, message, files))
        self._json({"success": True, "commitOid": oid, "commitUrl": f"{self.base}/{name}/commit/{oid}"})

    def _file(self, commit: Commit, path: str) -> None:
        if path not in commit.files:
            raise RefusalError(404, "Entry not found", "EntryNotFound")
        data = commit.files[path]
        oid = _oid(path, data)
        headers: dict[str, Any] = {"X_Repo_Commit": commit.oid, "ETag": f'"{oid}"'}
        if path.endswith(LARGE):
            place = f"{self.base.replace('127.0.0.1', 'localhost')}/cdn/{oid}"
            linked: dict[str, Any] = {"X_Linked_ETag": f'"{oid}"', "X_Linked_Size": str(len(data)), "Location": place}
            return self._send(302, **headers, **linked)
        return self._send(200, data, **headers)


@contextmanager
def model_hub(home: Path) -> Iterator[tuple[Hub, dict[str, str]]]:
    """Serve an empty hub.

    Args:
        home: folder for the client's caches; one that is not there is a cache that is empty.

    Yields:
        What the hub holds, and the environment of a child process that uses it, without a token.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = server.hub = Hub()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    others = {k: v for k, v in os.environ.items() if not k.upper().startswith(("HF_", "HUGGINGFACE", "COVERAGE"))}
    own = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    try:
        yield hub, others | own
    finally:
        server.shutdown()
        server.server_close()
