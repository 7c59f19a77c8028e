"""Work beside the event loop: together, in turn, bounded, and not done for who has gone away."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import encoded, serve

from rsretrieval import Retriever
from rsretrieval.serve import api, work
from rsretrieval.serve.work import BusyError, Encoder, Lane, ModelThread


class Gate:
    """Encodes numbers, and the first list only once it is let through; remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[list[Any]] = []
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self, items: list[Any]) -> Any:
        self.given.append(list(items))
        self.begun.set()
        self.open.wait(10)
        if "bad" in items:
            raise ValueError("a bad item")
        return np.array([[float(item), 1.0] for item in items])


async def behind(gate: Gate, others: Callable[[], Awaitable[Any]], first: Awaitable[Any]) -> tuple[Any, Any]:
    """Results of a first job, and of what is asked while it is at work."""
    task = asyncio.ensure_future(first)
    await asyncio.to_thread(gate.begun.wait, 10)
    rest = asyncio.ensure_future(others())
    await asyncio.sleep(0.05)
    gate.open.set()
    return await task, await rest


def test_what_comes_in_meanwhile_is_encoded_together() -> None:
    gate = Gate()
    model = ModelThread({"numbers": Encoder(gate, 64)})

    async def others() -> Any:
        return await asyncio.gather(model("numbers", [2, 3]), model("numbers", [4]), model("numbers", [5, 6, 7]))

    first, rest = asyncio.run(behind(gate, others, model("numbers", [1])))
    assert gate.given == [[1], [2, 3, 4, 5, 6, 7]]
    assert first.tolist() == [[1, 1]]
    assert [part[:, 0].tolist() for part in rest] == [[2, 3], [4], [5, 6, 7]]
    model.close()


def test_kinds_take_turns_in_batches_of_their_own() -> None:
    gate = Gate()
    model = ModelThread({"few": Encoder(gate, 2), "many": Encoder(gate, 9)})

    async def others() -> Any:
        few = [model("few", [10 * number, 10 * number]) for number in (2, 3)]
        return await asyncio.gather(*few, model("few", [4, 4, 4]), *(model("many", [number]) for number in (5, 6)))

    _, rest = asyncio.run(behind(gate, others, model("few", [1])))
    assert gate.given == [[1], [20, 20], [5, 6], [30, 30], [4, 4, 4]]
    assert [len(part) for part in rest] == [2, 2, 3, 1, 1]
    model.close()


def test_one_does_not_fail_the_others() -> None:
    gate = Gate()
    model = ModelThread({"numbers": Encoder(gate, 64)})

    async def others() -> Any:
        jobs = (model("numbers", [2]), model("numbers", ["bad"]), model("numbers", [4]))
        return await asyncio.gather(*jobs, return_exceptions=True)

    _, rest = asyncio.run(behind(gate, others, model("numbers", [1])))
    assert gate.given == [[1], [2, "bad", 4], [2], ["bad"], [4]]
    assert [rest[0][0, 0], str(rest[1]), rest[2][0, 0]] == [2, "a bad item", 4]
    model.close()


def test_who_has_gone_away_is_left_out() -> None:
    gate = Gate()
    model = ModelThread({"numbers": Encoder(gate, 64)})

    async def others() -> Any:
        going, staying = (asyncio.ensure_future(model("numbers", [number])) for number in (2, 3))
        await asyncio.sleep(0)
        going.cancel()
        return await staying

    asyncio.run(behind(gate, others, model("numbers", [1])))
    assert gate.given == [[1], [3]]
    model.close()


def test_queues_are_bounded() -> None:
    gate = Gate()
    model, lane = ModelThread({"numbers": Encoder(gate, 64)}, waiting=1), Lane("test", 1, waiting=1)

    async def others() -> Any:
        return await asyncio.gather(*(model("numbers", [number]) for number in (2, 3)), return_exceptions=True)

    _, rest = asyncio.run(behind(gate, others, model("numbers", [1])))
    assert rest[0][0, 0] == 2
    assert isinstance(rest[1], BusyError)
    model.close()
    gate = Gate()

    async def in_lane() -> Any:
        return await asyncio.gather(*(lane(gate, [number]) for number in (2, 3)), return_exceptions=True)

    async def both() -> Any:
        result = await behind(gate, in_lane, lane(gate, [1]))
        again = await lane(gate, [4])  # there is room again
        return result, again

    (_, rest), again = asyncio.run(both())
    assert (rest[0][0, 0], again[0, 0]) == (2, 4)
    assert isinstance(rest[1], BusyError)
    lane.close()


def test_work_that_is_not_begun_is_dropped_with_its_request() -> None:
    gate, lane = Gate(), Lane("test", 1)

    async def others() -> Any:
        going = asyncio.ensure_future(lane(gate, [2]))
        await asyncio.sleep(0)
        going.cancel()
        return await lane(gate, [3])

    asyncio.run(behind(gate, others, lane(gate, [1])))
    assert gate.given == [[1], [3]]
    lane.close()


class Asked:
    """A request whose client leaves when it is told to."""

    def __init__(self) -> None:
        self.leave = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.leave.wait()
        return {"type": "http.disconnect"}


def test_a_request_ends_with_its_client_and_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = []

    async def long() -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def leaving() -> None:
        asked: Any = Asked()
        asyncio.get_running_loop().call_later(0.05, asked.leave.set)
        with pytest.raises(api.ClientLeftError):
            await api.waited(asked, long())
        monkeypatch.setattr(api, "SECONDS", 0.05)
        asked.leave.clear()
        with pytest.raises(api.TooSlowError):
            await api.waited(asked, long())
        await asyncio.sleep(0)

    asyncio.run(leaving())
    assert cancelled == [True, True]


def test_what_a_busy_server_says(archive: Path, retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "WAITING", 0)
    with serve(archive, retriever) as client:
        service: Any = client.app.app.state.service  # type: ignore[attr-defined]
        service.searches = Lane("none", 0 + 1, waiting=-1)
        answer = client.get("/api/search?text=ships")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert "too many" in answer.json()["error"]
        service.reads = Lane("none", 1, waiting=-1)
        picture = {"file": encoded(Image.new("RGB", (9, 9)))}
        assert client.post("/api/search", files=picture).status_code == 503
        assert client.get("/health").status_code == 200
