"""A model as a folder to give away. What is heavy is imported where it is used: ``export --help`` is quick."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

log = logging.getLogger(__name__)


def export(
    checkpoint: str,
    to: str = "",
    image_size: int | None = None,
    max_words: int | None = None,
    *,
    int8: bool = False,
    standalone: bool = False,
    form: Literal["rsretrieval", "open_clip", "onnx", "torch_export"] = "rsretrieval",
    calibration: Callable[..., Any] | None = None,
    push: str | None = None,
    private: bool = False,
    licence: str | None = None,
    trust_remote_code: bool = False,
) -> None:
    """Write a model as a folder for ``Retriever.from_pretrained``, in half precision.

    The folder holds the tensors that its towers' own weights do not give, and names those: of an adapter on a
    pre-trained pair it is small. Where they are files of this machine, or are gone, the folder is standalone: it loads
    anywhere. A card, ``README.md``, says what is known of it by the files of the run; one that a person wrote or edited
    stays.

    Args:
        checkpoint: of a training run; or any other name that ``Retriever.from_pretrained`` takes.
        to: the folder to write to; empty for none, with push.
        image_size: side of the images in evaluation, in pixels; null for the model's.
        max_words: longest sentence, in words; null for the model's.
        int8: keep matrices in eight bits and a scale for each row, in half the space.
        standalone: write every tensor, and the tokenisers, so that the folder needs no other package or file.
        form: ``open_clip`` writes a pair with nothing above it, fine-tuned or not, as a folder that open_clip itself
            reads (``local-dir:``), in float32; it takes none of the options before. ``onnx`` and ``torch_export`` write
            both sides as graphs, with all that their use takes, once they give the model's embeddings to 1e-4
            (``docs/exporting.md``); int8 is of ``onnx`` alone, and takes pictures.
        calibration: the model and the side of its images to pictures as it sees them; for int8 of ``onnx``.
        push: ``OWNER/NAME`` on the Hugging Face hub to put the folder to, with the token of ``hf auth login`` or
            ``HF_TOKEN``.
        private: whether nobody else sees it there.
        licence: of the weights, for the card: an identifier of the hub's, such as ``apache-2.0``; null states none.
        trust_remote_code: let the model's settings run Python code that comes with it.

    Raises:
        CheckpointError: if the file is no checkpoint of a training run.
        PretrainedError: if there is no model of that name.
        ValueError: if it is none that open_clip has, or options do not go together.
        HubError: if it cannot be pushed; the message says what to do.
        RemoteCodeError: if its settings would run a stranger's code, and that is not allowed.
    """
    from rsretrieval.models.card import write_card
    from rsretrieval.models.exported import write_folder
    from rsretrieval.models.pretrained import find_model

    _check_place(form, to, push, private=private, licence=licence)
    if calibration is not None and (form != "onnx" or not int8):
        raise ValueError("calibrate gives pictures for form=onnx with int8, and has no effect on others: leave it out")
    source = find_model(checkpoint, trust_remote_code=trust_remote_code)
    if form == "open_clip":
        from rsretrieval.models.open_clip_folder import check_is_open_clip, write_open_clip

        if int8 or standalone or image_size or max_words:
            raise ValueError("form=open_clip takes none of int8, standalone, image_size and max_words: leave them out")
        check_is_open_clip(source.encoder)
        write_open_clip(source.build(), Path(to).expanduser(), source.trained_logits)
        return
    source = replace(source, image_size=image_size or source.image_size, max_words=max_words or source.max_words)
    if form != "rsretrieval":
        from rsretrieval.models.graph_folder import export_graphs

        if standalone:
            raise ValueError(f"form={form} is standalone already: leave standalone out")
        export_graphs(source, Path(to).expanduser(), form, calibration, int8=int8)
        return
    with TemporaryDirectory() as place:
        folder = Path(to or place).expanduser()
        write_folder(source.build(), source, folder, int8=int8, standalone=standalone)
        write_card(folder, source, name=push, licence=licence)
        if push:
            from rsretrieval.models.hub import push_folder

            log.info("the model is %s, commit %s", *push_folder(folder, push, private=private))


def _check_place(form: str, to: str, push: str | None, *, private: bool, licence: str | None) -> None:
    """Refuse what has no place, or no effect."""
    if form != "rsretrieval" and (push or licence or not to):
        raise ValueError(
            f"form={form} takes a folder as --to, and neither push nor licence: leave them out (`hf upload OWNER/NAME "
            "FOLDER` puts such a folder on the hub)"
        )
    if not to and not push:
        raise ValueError("where to? Give --to FOLDER, or --push OWNER/NAME, or both")
    if private and not push:
        raise ValueError("private is of what is pushed: give --push OWNER/NAME too")
