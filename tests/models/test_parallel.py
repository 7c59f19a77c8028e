"""Batches in pieces on threads of one core each."""

import multiprocessing
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from rsretrieval.models.parallel import core_images, in_pieces, on_cores, without_training


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def modes(_: object) -> tuple[bool, bool, bool, torch.dtype]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
    )


def test_rows_in_order_whatever_the_pieces(threads: int) -> None:
    images, sizes = torch.arange(23.0)[:, None], []

    def twice(rows: Tensor) -> list[Tensor]:
        sizes.append(len(rows))
        return [2 * rows, rows + 1]

    with torch.no_grad():
        doubled, more = in_pieces(twice, images, 4)
        assert in_pieces(twice, images[:0], 4)[0].shape == (0, 1)
    assert torch.equal(doubled, 2 * images)
    assert torch.equal(more, images + 1)
    assert sum(sizes) == 23
    assert max(sizes) <= 4
    assert torch.get_num_threads() == threads


def test_at_once_where_asked_for_or_gradients_are_taken(threads: int) -> None:
    tokens = {"input_ids": torch.arange(9)}
    with torch.no_grad():
        assert in_pieces(lambda piece: [torch.tensor([len(piece["input_ids"])])], tokens, None)[0].tolist() == [9]
        few = in_pieces(lambda piece: [torch.tensor([len(piece["input_ids"])])], tokens, 4)[0]
        assert sum(few.tolist()) == 9
    assert in_pieces(lambda piece: [torch.tensor([len(piece["input_ids"])])], tokens, 4)[0].tolist() == [9]


def test_a_thread_has_the_modes_of_its_caller_and_one_core(threads: int) -> None:
    seen: list[object] = []

    def look(rows: Tensor) -> list[Tensor]:
        seen.append((*modes(rows), torch.get_num_threads()))
        return [rows]

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        in_pieces(look, torch.rand(12, 1), 2)
        expected = modes(None)
    assert set(seen) == {(*expected, 1)}
    seen.clear()
    with torch.no_grad():
        in_pieces(look, torch.rand(12, 1), 2)
        expected = modes(None)
    assert set(seen) == {(*expected, 1)}


def test_an_error_comes_through(threads: int) -> None:
    def fail(rows: Tensor) -> list[Tensor]:
        raise ValueError(f"{len(rows)} rows")

    with torch.no_grad(), pytest.raises(ValueError, match="rows"):
        in_pieces(fail, torch.rand(12, 1), 2)


def _child(results: "multiprocessing.Queue[list[int]]") -> None:
    results.put(list(on_cores(abs, [-1, 2, -3])))


def test_after_a_fork(threads: int) -> None:
    assert list(on_cores(abs, [-1, 2])) == [1, 2]
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_child, args=(results,))
    child.start()
    assert results.get(timeout=60) == [1, 2, 3]
    child.join()


def test_more_images_where_the_weights_leave_the_cache_anyway() -> None:
    assert core_images(torch.nn.Linear(8, 8)) == 4
    with torch.device("meta"):
        assert core_images(torch.nn.Linear(8000, 8001)) == 16


@pytest.mark.parametrize("trained", [False, True])
def test_a_network_that_does_not_train_takes_no_gradients(trained: bool, threads: int) -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1), requires_grad=trained)
            self.sizes: list[int] = []

        def forward(self, images: Tensor) -> list[Tensor]:
            self.sizes.append(len(images))
            return [images * self.scale * 2]

    network, images = Network().eval(), torch.rand(12, 1)
    (found,) = without_training(network, images)
    assert found.requires_grad == trained
    assert max(network.sizes) == (12 if trained else 4)
    torch.testing.assert_close(found.detach(), 2 * images)
    (of_pixels,) = without_training(network, images.requires_grad_())
    assert torch.autograd.grad(of_pixels.sum(), images)[0].unique().tolist() == [2.0]
