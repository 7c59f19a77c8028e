"""Graph reasoning by a loop, and the option that keeps it from running away."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from rsretrieval.models.fgis import FGIS, GraphReasoning


@pytest.mark.parametrize("normalize", [False, True])
def test_graph_step_node_by_node(normalize: bool) -> None:
    torch.manual_seed(0)
    step, nodes = GraphReasoning(16, normalize_nodes=normalize), torch.randn(2, 5, 16)
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
    step, nodes = GraphReasoning(16, normalize_nodes=True), torch.randn(2, 5, 16)
    torch.testing.assert_close(step(1000 * nodes), step(nodes), rtol=1e-3, atol=1e-3)
    assert FGIS(8, 64, normalize_nodes=True).graph[1].normalize_nodes
