"""Many clients at once on `rsretrieval serve`: times, errors and memory, as a line of a table in Markdown.

    python benchmarks/serve.py                                # 50 clients, a minute, 100 k vectors
    python benchmarks/serve.py --seconds 10 --clients 10

The archive is of random vectors with places and dates, made in a temporary folder; the server is a process of its own.
Each client asks again as soon as it is answered: half of the time for a sentence that nobody asked for before, else for
further pages of another, rows like others, within a box, for a row's details, and one time in twenty by a picture of
512 pixels. Clients and server share the machine. Memory is the server's resident set, after a tenth of the time and at
the end.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image

from rsretrieval import Retriever
from rsretrieval.archive.index import build_index
from rsretrieval.cli.serve import listening
from rsretrieval.embeddings import Row, table, write_sorted
from rsretrieval.embeddings.wkb import to_wkb
from rsretrieval.serve.terms import key_of

WORDS = "two planes ships in a harbour beside many trees on bare land with red roofs near the road and a river".split()
HEADER = (
    "| rows | clients | s | requests | a second | p50, ms | p95, ms | largest, ms | errors | memory, MB | growth, MB |"
)


def write_archive(folder: Path, rows: int, model: str) -> None:
    """An archive of random vectors by a model's name, width and digest, and its index."""
    retriever = Retriever.from_pretrained(model)
    generator, width = np.random.default_rng(0), retriever.model.embed_dim
    vectors = generator.standard_normal((rows, width), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    listed = []
    for number, (west, south) in enumerate(generator.uniform((0, 40), (10, 50), (rows, 2)).tolist()):
        box = (west, south, west + 0.01, south + 0.01)
        ring = [[box[x], box[y]] for x, y in ((0, 1), (2, 1), (2, 3), (0, 3), (0, 1))]
        place = to_wkb({"type": "Polygon", "coordinates": [ring]})
        taken = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number % 700)
        listed.append(Row(f"{number}.png", f"{number}.png", (0, 0, 224, 224), place, box, taken, "made up"))
    emb = {
        "type": "chip", "dimensions": width, "data_type": "float16", "root": ".", "written": "1",
        "model": {"name": model, "digest": retriever.digest}, "preprocessing": {"scale": None, "bands": None},
    }  # fmt: skip
    write_sorted(folder / "embeddings.parquet", [table(listed, vectors, "float16")], {"emb": emb})
    build_index(folder, sample=10)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Address and process of a server of an archive."""
    with listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    with subprocess.Popen([sys.executable, "-m", "rsretrieval", "serve", str(folder), f"--port={port}"]) as process:
        try:
            address, until = f"http://127.0.0.1:{port}", time.monotonic() + 300
            while True:
                try:
                    httpx.get(f"{address}/health").raise_for_status()
                    break
                except httpx.TransportError:
                    if process.poll() is not None or time.monotonic() > until:
                        sys.exit("the server did not start")
                    time.sleep(0.5)
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()


class Client:
    """Asks without a pause; ``seconds`` of each answer, and what went wrong.

    Args:
        address: of the server.
        number: of the client, its seed.
        rows: of the archive.
    """

    def __init__(self, address: str, number: int, rows: int) -> None:
        self._http, self._chance, self._rows = (
            httpx.AsyncClient(base_url=address, timeout=60),
            random.Random(number),
            rows,
        )
        self.seconds: list[float] = []
        self.errors: Counter[str] = Counter()
        content = io.BytesIO()
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (512, 512, 3), np.uint8)).save(content, "JPEG")
        self._picture = content.getvalue()

    async def run(self, until: float) -> None:
        """Ask until a moment of the monotonic clock."""
        async with self._http:
            while time.monotonic() < until:
                began = time.perf_counter()
                try:
                    answer = await self._ask()
                    if answer.status_code != 200:
                        self.errors[f"{answer.status_code} {answer.text[:100]}"] += 1
                except httpx.HTTPError as error:
                    self.errors[repr(error)] += 1
                self.seconds.append(time.perf_counter() - began)

    async def _ask(self) -> httpx.Response:
        key = key_of(f"{self._chance.randrange(self._rows)}.png")
        text = " ".join(self._chance.choices(WORDS, k=8))
        corner = self._chance.uniform(0, 8), self._chance.uniform(40, 48)
        box = f"{corner[0]},{corner[1]},{corner[0] + 2},{corner[1] + 2}"
        asked: list[tuple[float, dict[str, Any]]] = [
            (5, {"text": text}), (1, {"text": "two ships", "offset": 40 * self._chance.randrange(20)}),
            (1, {"like": key, "not": "a road"}), (1, {"text": "a harbour", "box": box}),
        ]  # fmt: skip
        kind = self._chance.choices(range(6), [weight for weight, _ in asked] + [1, 0.5])[0]
        if kind == 4:
            return await self._http.get(f"/api/items/{key}")
        if kind == 5:
            return await self._http.post("/api/search", files={"file": self._picture})
        return await self._http.get("/api/search", params=asked[kind][1])


async def load(address: str, server: psutil.Process, clients: int, seconds: float, rows: int) -> dict[str, Any]:
    """What came of it."""
    asking = [Client(address, number, rows) for number in range(clients)]
    until = time.monotonic() + seconds
    running = asyncio.gather(*(client.run(until) for client in asking))
    await asyncio.sleep(seconds / 10)
    first = server.memory_info().rss
    await running
    times = np.concatenate([client.seconds for client in asking])
    errors = sum((client.errors for client in asking), Counter[str]())
    growth = (server.memory_info().rss - first) / 2**20
    return {"times": times, "errors": errors, "memory": server.memory_info().rss / 2**20, "growth": growth}


def main() -> None:
    """Measure, and print a table; the status is 1 if there was an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 100_000), ("clients", 50), ("seconds", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--model", default="rsicd-lite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        write_archive(Path(place), options.rows, options.model)
        with served(Path(place)) as (address, server):
            found = asyncio.run(load(address, server, options.clients, options.seconds, options.rows))
    times = found["times"] * 1000
    middle, late = np.quantile(times, (0.5, 0.95))
    print(HEADER, "|" + "---|" * 11, sep="\n")  # noqa: T201
    line = (
        f"{options.rows:,}", options.clients, options.seconds, f"{len(times):,}", round(len(times) / options.seconds),
        round(middle), round(late), round(times.max()), found["errors"].total(), round(found["memory"]),
        f"{found['growth']:+.0f}",
    )  # fmt: skip
    print("|", " | ".join(map(str, line)), "|")  # noqa: T201
    if found["errors"]:
        sys.exit(json.dumps(found["errors"], indent=1))


if __name__ == "__main__":
    main()
