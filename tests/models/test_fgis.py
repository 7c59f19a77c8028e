"""Graph reasoning by a loop, and the option that keeps it from running away."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from rsretrieval.models.fgis import FGIS, GraphReasoning
from rsretrieval.models.layers import Dropout


@pytest.mark.parametrize("normalize", [False, True])
def test_graph_step_node_by_node(normalize: bool) -> None:
    torch.manual_seed(0)
    step, nodes = GraphReasoning(16, stabilised=normalize), torch.randn(2, 5, 16)
    got = step(nodes)
    for b in range(2):
        own = [F.layer_norm(n, (16,)) if normalize else n for n in nodes[b]]
        for i in range(5):
            products = torch.stack([step.query(own[i]) @ step.key(own[j]) for j in range(5)])
            affinity = (products / 4 if normalize else products).softmax(0)
            wanted = step.update(sum(a * n for a, n in zip(affinity, own, strict=True))).relu()
            torch.testing.assert_close(got[b, i], wanted)


def test_normalised_nodes_cannot_run_away() -> None:
    torch.manual_seed(1)
    step, nodes = GraphReasoning(16, stabilised=True), torch.randn(2, 5, 16)
    torch.testing.assert_close(step(1000 * nodes), step(nodes), rtol=1e-3, atol=1e-3)
    assert FGIS(8, 64, stabilised=True).graph[1].stabilised


def test_stabilised_fgis_starts_from_the_tower_alone() -> None:
    fgis, pooled = FGIS(8, 64, stabilised=True), torch.randn(2, 64)
    got = fgis(torch.randn(2, 8, 14, 14), torch.randn(2, 64), pooled, torch.randn(2, 5, 64))
    torch.testing.assert_close(got, F.normalize(pooled, dim=-1))


def test_a_step_gives_the_nodes_that_are_wanted() -> None:
    torch.manual_seed(0)
    step, nodes = GraphReasoning(16), torch.randn(2, 5, 16)
    torch.testing.assert_close(step(nodes, slice(1, 3)), step(nodes)[:, 1:3])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_dropout(precision: torch.dtype) -> None:
    torch.manual_seed(0)
    dropout, values = Dropout(0.2), torch.full((400, 500), 3, dtype=precision, requires_grad=True)
    dropped = dropout(values)
    assert dropped.dtype == precision
    assert dropped.unique().tolist() == [0, 3.75]
    assert (dropped == 0).float().mean().item() == pytest.approx(0.2, abs=0.005)
    dropped.sum().backward()
    assert torch.equal(values.grad * 3, dropped.detach())  # type: ignore[operator]
    assert dropout.eval()(values) is values
