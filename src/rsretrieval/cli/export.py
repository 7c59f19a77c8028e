"""``rsretrieval export``: a model as a folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from rsretrieval.cli.plugins import add_plugins, load_plugins
from rsretrieval.models.export import export

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rsretrieval.models.dual_encoder import DualEncoder


def main(arguments: Sequence[str]) -> None:
    """Run ``export``, the first of the arguments."""
    parser = ArgumentParser(prog="rsretrieval export", description=export.__doc__)
    parser.add_argument("checkpoint", type=str, help="of a training run, or what else Retriever.from_pretrained takes")
    parser.add_function_arguments(export, as_group=False, as_positional=False, skip={"checkpoint", "calibration"})
    parser.add_argument(
        "--calibrate", type=str, nargs="+", default=None,
        help="for --form onnx --int8 true: images as `rsretrieval embed` takes them, of which 128 by "
        "chance say what ranges numbers have",
    )  # fmt: skip
    add_plugins(parser)
    options = vars(parser.parse_args(arguments[1:]))
    load_plugins(options.pop("plugins"))
    calibrate = options.pop("calibrate")
    export(**options, calibration=calibrate and partial(_squares, calibrate))


def _squares(images: Sequence[str], model: DualEncoder, image_size: int) -> list[NDArray[Any]]:
    from rsretrieval.archive.calibration import sampled_squares
    from rsretrieval.retriever import Retriever

    return sampled_squares(Retriever(model, image_size), images)
