"""Makes this folder again: a run, its checkpoint in mid-epoch, its export and embeddings, as of commit 39c173e.

    git worktree add OLD 39c173e && PYTHONPATH=OLD/src:OLD/tests python tests/data/older/make.py

It needs the package of that commit; today's has other names, which is what the folder is for.
"""

import lzma
import os
import shutil
import tempfile
from pathlib import Path

import torch
import yaml
from rsretrieval import cli
from rsretrieval.module import RetrievalModule
from rsretrieval.retriever import export
from tiny import write_bert

HERE = Path(__file__).parent.resolve()
TEXT = {"library": "transformers", "name": "BERT", "pooling": "levels"}
SETTINGS = {
    "trainer": {
        "accelerator": "cpu", "max_epochs": 2, "default_root_dir": "run", "limit_train_batches": 4,
        "limit_val_batches": 1, "log_every_n_steps": 1, "enable_progress_bar": False,
        "callbacks": [{"class_path": "rsretrieval.callbacks.AveragedWeights", "init_args": {"decay": 0.9}}],
    },
    "data": {
        "source": "synthetic", "image_size": 64, "batch_size": 4, "num_workers": 0, "augmentation": "none",
        "captions_per_image": 1,
    },
    "model": {
        "image": {
            "library": "timm", "name": "test_vit", "weights": None,
            "options": {"embed_dim": 16, "depth": 1, "num_heads": 2},
        },
        "prior": {"library": "timm", "name": "test_resnet", "weights": None, "options": {"channels": [8, 8, 8, 8]}},
        "text": {"library": "joint", "name": "two", "weights": None, "options": {"towers": [TEXT]}},
        "embed_dim": 16, "steady": True, "query_bank": 6, "rerank": {"method": "dual_softmax", "queries": "bank"},
        "objective": {"share_captions": True},
    },
    "resume": {"every_n_train_steps": 3}, "report": {"queries": 0},
}  # fmt: skip


def main() -> None:
    """Train six steps in a folder of their own and keep what is needed."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("BERT").mkdir()
        write_bert(Path("BERT"))
        Path("tiny.yaml").write_text(yaml.safe_dump(SETTINGS))
        cli.main(["fit", "-c", "tiny.yaml"])
        checkpoint = Path("run/checkpoints/last-step.ckpt")
        model = RetrievalModule.load_from_checkpoint(checkpoint).model.eval()
        images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            embeddings = {
                "image": model.encode_image(images),
                "text": model.encode_text(["a red plane", "two ships in the harbour"]),
                "bank": model.bank.queries()[0],
            }
        torch.save(embeddings, HERE / "embeddings.pt")
        export(str(checkpoint), str(HERE / "exported"))
        shutil.copy("run/config.yaml", HERE / "config.yaml")
        content = torch.load(checkpoint, weights_only=True)
        content["current_model_state"] = content["state_dict"]  # a small file: tensors that are the same, and zeros
        for moments in content["optimizer_states"][0]["state"].values():
            moments["exp_avg"].zero_(), moments["exp_avg_sq"].zero_()
        torch.save(content, "small.ckpt")
        (HERE / "last-step.ckpt.xz").write_bytes(lzma.compress(Path("small.ckpt").read_bytes(), preset=9))


if __name__ == "__main__":
    main()
