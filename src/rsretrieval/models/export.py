"""A checkpoint as a folder to give away. What is heavy is imported where it is used: ``export --help`` is quick."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from rsretrieval.files import write_whole

log = logging.getLogger(__name__)


def export(
    checkpoint: str,
    to: str,
    image_size: int | None = None,
    max_words: int | None = None,
    *,
    int8: bool = False,
    standalone: bool = False,
    trust_remote_code: bool = False,
) -> None:
    """Write a checkpoint as a folder for ``Retriever.from_pretrained``, in half precision.

    Where its towers came from files of this machine, or those are gone, the folder is standalone: it loads anywhere.

    Args:
        checkpoint: of a training run.
        to: the folder to write to.
        image_size: side of the images in evaluation, in pixels; null for the run's.
        max_words: longest sentence, in words; null for the run's.
        int8: keep matrices in eight bits and a scale for each row, in half the space.
        standalone: write every tensor, and the tokenisers, so that the folder needs no other package or file.
        trust_remote_code: let the checkpoint's settings run Python code that comes with a model.

    Raises:
        CheckpointError: if the file is no checkpoint of a training run.
        RemoteCodeError: if its settings would run a stranger's code, and that is not allowed.
    """
    from safetensors.torch import save_file

    from rsretrieval.models.checkpoint import changed_tensors, read_checkpoint, starting_tensors
    from rsretrieval.models.dual_encoder import DualEncoder
    from rsretrieval.models.feature_cache import fingerprint
    from rsretrieval.models.packing import pack
    from rsretrieval.models.pretrained import CONFIG, WEIGHTS
    from rsretrieval.models.standalone import local_sources
    from rsretrieval.models.standalone import standalone as without_sources
    from rsretrieval.models.weights import tensors_follow
    from rsretrieval.settings import plain

    run = read_checkpoint(checkpoint, trust_remote_code=trust_remote_code)
    config = run.encoder
    with tensors_follow():
        trained = DualEncoder(config)
    trained.load_state_dict(run.tensors)
    folder = Path(to).expanduser()
    if local := local_sources(config):
        log.info("%s is of this machine alone, so that every tensor is written", ", ".join(local))
    stored, starting = trained.state_dict(), {} if standalone or local else starting_tensors(config)
    if starting:
        stored = changed_tensors(stored, starting)
    else:
        config = without_sources(config, trained, folder)
    settings = {
        "encoder": plain(config),
        "hubness": run.hubness,
        "image_size": image_size or run.image_size,
        "max_words": max_words or run.max_words,
    }
    metadata = {"rest": fingerprint({key: value for key, value in starting.items() if key not in stored})}
    packed = pack(stored, int8=int8)
    write_whole(folder / WEIGHTS, lambda partial: save_file(packed, partial, metadata=metadata))
    text = json.dumps(settings, indent=1) + "\n"
    write_whole(folder / CONFIG, lambda partial: partial.write_text(text, encoding="utf-8"))
