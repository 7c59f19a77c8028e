"""On 2 and 3 gloo processes everything is as on one: gradients of every loss and stage, and recall."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import ddp_child


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_gradients_and_recall_equal_one_process(world: int, tmp_path: Path, tiny_clip: str) -> None:
    script = [sys.executable, str(Path(__file__).with_name("ddp_child.py"))]
    children = [subprocess.Popen([*script, str(r), str(world), tiny_clip, str(tmp_path)]) for r in range(world)]
    alone = ddp_child.results(0, 1, tiny_clip)
    assert [child.wait(timeout=240) for child in children] == [0] * world
    for rank in range(world):
        found = torch.load(tmp_path / f"{rank}.pt")
        for case in ddp_child.CASES:
            scale = torch.stack([g.norm() for g in alone[case].values()]).norm()
            for name, wanted in alone[case].items():
                # 1e-5 of the gradient; where that is 0 but for rounding (as of a softmax's key bias), of the whole one.
                error = (found[case][name] - wanted).norm()
                assert error <= 1e-5 * wanted.norm() + 1e-7 * scale, (case, name)
        for name, wanted in alone["bank"].items():
            torch.testing.assert_close(found["bank"][name], wanted, atol=1e-5, rtol=0)
        recall = found["recall"]
        assert recall.pop("images").tolist() == list(range(ddp_child.IMAGES))
        assert recall.pop("captions") == 2 * ddp_child.IMAGES
        assert recall == {key: alone["recall"][key] for key in recall}
