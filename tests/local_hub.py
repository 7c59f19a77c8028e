"""A stand-in for the Hugging Face hub on 127.0.0.1: data sets in the hub's layouts, and models, for the real client.

It can be told to fail (:class:`Fault`). A data set's newest commit is what its file ``.revision`` says, or else
``REVISION``; an older one is a folder ``NAME@COMMIT`` beside it. Not covered: redirects to a CDN, Xet storage, tokens.
"""

import hashlib
import io
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

REVISION = "0123456789abcdef0123456789abcdef01234567"


def write_dataset(folder: Path, shards: dict[str, int], *, rows: int = 6, group: int = 2, card: bool = True) -> None:
    """Parquet files of small images whose grey value is their row number; with a card, or in the legacy layout."""
    features = Features({"filename": Value("string"), "captions": List(Value("string")), "image": ImageFeature()})
    (folder / "data").mkdir(parents=True)
    for split, count in shards.items():
        for shard in range(count):
            numbers = range(shard * rows, (shard + 1) * rows)
            encoded = []
            for number in numbers:
                buffer = io.BytesIO()
                Image.new("RGB", (8, 8), (number,) * 3).save(buffer, "PNG")
                encoded.append({"bytes": buffer.getvalue(), "path": None})
            columns = {
                "filename": [f"images/pond_{n}.png" for n in numbers],
                "captions": [[f"{split} {n} caption {k}" for k in range(1 + n % 3)] for n in numbers],
                "image": encoded,
            }
            table = pa.Table.from_pydict(columns, schema=features.arrow_schema)
            name = f"{split}-{shard:05d}-of-{count:05d}.parquet"
            pq.write_table(table, folder / "data" / name, row_group_size=group)
    if card:
        files = "".join(f"  - split: {split}\n    path: data/{split}-*\n" for split in shards)
        (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")


@dataclass
class Fault:
    """What goes wrong with the next requests for the bytes of a file.

    Attributes:
        kind: ``503``, ``429`` (with Retry-After: 1), ``cut`` (half of the body, then the connection ends) or ``stall``
            (nothing for ``seconds``, then the connection ends).
        times: how many requests.
        after: requests that go well before.
        seconds: of a stall.
    """

    kind: str
    times: int = 1
    after: int = 0
    seconds: float = 3.0

    def next(self) -> str | None:
        """The fault of this request, if any."""
        if self.after > 0:
            self.after -= 1
            return None
        self.times -= 1
        return self.kind if self.times >= 0 else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body go by two writes, and the second would wait for 40 ms

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _entry(self, root: Path, path: Path) -> dict[str, object]:
        name = path.relative_to(root).as_posix()
        oid = hashlib.sha1(name.encode()).hexdigest()
        kind, size = ("directory", 0) if path.is_dir() else ("file", path.stat().st_size)
        entry: dict[str, object] = {"type": kind, "oid": oid, "size": size, "path": name}
        if path.suffix == ".zip":  # as the hub does with large files
            entry["lfs"] = {"oid": hashlib.sha256(path.read_bytes()).hexdigest(), "size": size, "pointerSize": 134}
        return entry

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        match = re.fullmatch(
            r"/(?:api/)?(?:datasets/|models/)?([^/]+/[^/]+)(?:/(resolve|tree|paths-info|revision)/([^/]+)(?:/(.*))?)?",
            unquote(url.path),
        )
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        newest = self.server.root / match[1] if match else None  # type: ignore[attr-defined]
        if match is None or newest is None or not newest.is_dir():
            return self._send(404, X_Error_Code="RepoNotFound")
        root, commit = _checkout(newest, match[3])
        if not root.is_dir():
            return self._send(404, X_Error_Code="RevisionNotFound")
        what, path = match[2], root / (match[4] or "")
        if what in (None, "revision"):
            files = sorted(f.relative_to(root).as_posix() for f in root.rglob("[!.]*") if f.is_file())
            info = {"id": match[1], "sha": commit, "siblings": [{"rfilename": name} for name in files]}
            return self._json({"_id": "0" * 24, "private": False, "tags": [], **info})
        if what == "paths-info":
            wanted = [root / name for name in parse_qs(body.decode()).get("paths", [])]
            return self._json([self._entry(root, p) for p in wanted if p.exists()])
        if not path.exists():
            return self._send(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        if what == "tree":
            below = path.rglob("[!.]*") if "recursive=true" in url.query.lower() else path.glob("[!.]*")
            return self._json([self._entry(root, p) for p in sorted(below)])
        return self._file(path.read_bytes(), commit)

    do_HEAD = do_POST = do_GET  # noqa: N815 - http.server's names

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), Content_Type="application/json")

    def _file(self, data: bytes, commit: str) -> None:
        fault = self.server.fault  # type: ignore[attr-defined]
        kind = fault.next() if fault and self.command == "GET" else None
        if kind in ("503", "429"):
            return self._send(int(kind), **({"Retry_After": "1"} if kind == "429" else {}))
        if kind in ("cut", "stall"):
            time.sleep(fault.seconds if kind == "stall" else 0)
            self.close_connection = True
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if kind == "cut" else b"")
            return None
        headers = {
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
            "X_Repo_Commit": commit,
            "Accept_Ranges": "bytes",
        }
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not asked:
            return self._send(200, data, **headers, Content_Length=str(len(data)))
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        headers["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
        return self._send(206, data[first : last + 1], **headers)


def _checkout(newest: Path, revision: str | None) -> tuple[Path, str]:
    """The folder of a revision, and its commit."""
    file = newest / ".revision"
    commit = file.read_text() if file.is_file() else REVISION
    if revision in (None, "main", commit):
        return newest, commit
    return newest.with_name(f"{newest.name}@{revision}"), str(revision)


@contextmanager
def local_hub(root: Path, home: Path, fault: Fault | None = None) -> Iterator[dict[str, str]]:
    """Serve ``root/OWNER/NAME``; gives the environment of a child process that uses it with fresh caches."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.root, server.fault = root, fault  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    others = {k: v for k, v in os.environ.items() if not k.upper().startswith(("HF_", "HUGGINGFACE"))}
    try:
        yield others | {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(home / "hf"),
            "RSRETRIEVAL_CACHE": str(home / "cache"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }
    finally:
        server.shutdown()
