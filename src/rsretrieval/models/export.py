"""A model as a folder to give away. What is heavy is imported where it is used: ``export --help`` is quick."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal


def export(
    checkpoint: str,
    to: str,
    image_size: int | None = None,
    max_words: int | None = None,
    *,
    int8: bool = False,
    standalone: bool = False,
    form: Literal["rsretrieval", "open_clip"] = "rsretrieval",
    trust_remote_code: bool = False,
) -> None:
    """Write a model as a folder for ``Retriever.from_pretrained``, in half precision.

    The folder holds the tensors that its towers' own weights do not give, and names those: of an adapter on a
    pre-trained pair it is small. Where they are files of this machine, or are gone, the folder is standalone: it loads
    anywhere.

    Args:
        checkpoint: of a training run; or any other name that ``Retriever.from_pretrained`` takes.
        to: the folder to write to.
        image_size: side of the images in evaluation, in pixels; null for the model's.
        max_words: longest sentence, in words; null for the model's.
        int8: keep matrices in eight bits and a scale for each row, in half the space.
        standalone: write every tensor, and the tokenisers, so that the folder needs no other package or file.
        form: ``open_clip`` writes a pair with nothing above it, fine-tuned or not, as a folder that open_clip itself
            reads (``local-dir:``), in float32; it takes none of the options before.
        trust_remote_code: let the model's settings run Python code that comes with it.

    Raises:
        CheckpointError: if the file is no checkpoint of a training run.
        PretrainedError: if there is no model of that name.
        ValueError: if it is none that open_clip has.
        RemoteCodeError: if its settings would run a stranger's code, and that is not allowed.
    """
    from rsretrieval.models.exported import write_folder
    from rsretrieval.models.pretrained import find_model

    source = find_model(checkpoint, trust_remote_code=trust_remote_code)
    if form == "open_clip":
        from rsretrieval.models.open_clip_folder import check_is_open_clip, write_open_clip

        if int8 or standalone or image_size or max_words:
            raise ValueError("form=open_clip takes none of int8, standalone, image_size and max_words: leave them out")
        check_is_open_clip(source.encoder)
        write_open_clip(source.build(), Path(to).expanduser(), source.trained_logits)
        return
    source = replace(source, image_size=image_size or source.image_size, max_words=max_words or source.max_words)
    write_folder(source.build(), source, Path(to).expanduser(), int8=int8, standalone=standalone)
