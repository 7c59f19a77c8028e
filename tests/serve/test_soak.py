"""At length: the API against its own description, a thousand hostile uploads, many clients at once."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import hostile
import httpx
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from served import running
from tiny import examples

from rsretrieval import Retriever
from rsretrieval.serve.terms import key_of

pytestmark = pytest.mark.soak
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
KEYS = [key_of(id_) for id_ in ("mosaic.tif#0,0,64,64", "harbour_0.png", "table.parquet::row3.png")]


def test_answers_are_as_described(address: str) -> None:
    described = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations: list[Any] = [found.ok() for found in described.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) == 10
    seen: Counter[int] = Counter()
    for operation in operations:

        @settings(max_examples=examples(10), deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            key = str((case.path_parameters or {}).get("key", ""))
            if len(key) % 4:  # those that are drawn are of no row
                case.path_parameters["key"] = KEYS[len(key) % len(KEYS)]
            seen[case.call_and_validate(checks=CHECKS).status_code] += 1

        check()
    assert seen[200] > len(operations)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_thousand_hostile_uploads(archive: Path, retriever: Retriever) -> None:
    statuses: dict[str, Counter[int]] = {kind: Counter() for kind in hostile.KINDS}
    slowest, sizes = 0.0, []
    with running(archive, retriever) as address, httpx.Client(base_url=address, timeout=30) as client:
        for number, (kind, content) in enumerate(hostile.every(1000)):
            began = time.perf_counter()
            answer = client.post("/api/search", files={"file": ("a.png", content, "image/png")}, data={"k": "1"})
            slowest = max(slowest, time.perf_counter() - began)
            statuses[kind][answer.status_code] += 1
            assert ("results" in answer.json()) == (answer.status_code == 200)
            if number % 100 == 99:
                sizes.append(psutil.Process().memory_info().rss / 2**20)
        assert client.get("/health").status_code == 200
    for kind, counts in statuses.items():
        assert set(counts) <= ({200, 400} if kind == "flipped" else {200} if kind in hostile.TAKEN else {400}), kind
    assert slowest < 5
    assert sizes[-1] - sizes[1] < 200  # MB


def test_fifty_clients_for_a_minute() -> None:
    program = Path(__file__).parents[2] / "benchmarks" / "serve.py"
    result = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert result.returncode == 0, result.stdout + result.stderr
    line = [part.strip() for part in result.stdout.splitlines()[-1].strip("|").split("|")]
    assert line[-3] == "0"  # errors
    assert float(line[-1]) < 300  # MB of growth
