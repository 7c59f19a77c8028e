"""``rsretrieval embed``: pictures, rasters and tables of images to an archive of embeddings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser

from rsretrieval.cli.plugins import add_plugins, load_plugins

DESCRIPTION = """Embed images by a model, as an archive that `rsretrieval index` and `rsretrieval search` take.

Rasters with a place on earth are cut into tiles, and read window by window; other pictures are embedded whole. Killed
at any moment and called again it goes on; called later it reads what is new or has changed."""


def main(arguments: Sequence[str]) -> None:
    """Run ``embed``, the first of the arguments."""
    options: Any = vars(_parse(arguments[1:]))
    load_plugins(options.pop("plugins"))
    sys.stdout.write(run(**options) + "\n")


def _parse(arguments: Sequence[str]) -> Any:  # noqa: ANN401
    parser = ArgumentParser(prog="rsretrieval embed", description=DESCRIPTION)
    parser.add_argument("model", type=str, help="what Retriever.from_pretrained takes: a name, folder or checkpoint")
    parser.add_argument(
        "images", type=str, nargs="+",
        help="folders, patterns, pictures, rasters of any driver of GDAL, .SAFE products, STAC items, parquet files, "
        "tars of webdataset, or hf://datasets/OWNER/NAME",
    )  # fmt: skip
    parser.add_argument("--to", type=str, required=True, help="folder of the archive")
    parser.add_argument("--root", type=str | None, default=None, help="folder that the sources' names are relative to")
    parser.add_argument(
        "--tile", type=str | None, default=None,
        help="side of the tiles: pixels (224) or metres (500m); null for the model's size, of rasters with a place",
    )  # fmt: skip
    parser.add_argument("--overlap", type=str, default="0", help="of neighbouring tiles, in pixels or metres")
    parser.add_argument("--gsd", type=float | None, default=None, help="metres a pixel that rasters are resampled to")
    parser.add_argument(
        "--scale", type=str | None, default=None,
        help="how values that are not 8-bit become 8-bit: 'percentile 2 98' or 'minmax' of the whole raster, "
        "'minmax A B', or 'dtype'; null for the model's own or a scene's preset",
    )  # fmt: skip
    parser.add_argument(
        "--bands", type=str | None, default=None,
        help="red, green and blue: numbers from 1, as '4 3 2'; of .SAFE and STAC names, as 'B08 B04 B03'",
    )  # fmt: skip
    parser.add_argument(
        "--dates", type=str | None, default=None,
        help="a CSV with the columns source,datetime, or a pattern of file names such as '*_%%Y%%m%%d_*'",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=("float16", "float32", "int8"), default="float16", help="of the embeddings")
    parser.add_argument("--batch_size", type=int, default=64, help="pictures that are encoded at once")
    parser.add_argument("--workers", type=int | None, default=None, help="threads that read ahead; null for one a core")
    parser.add_argument("--prune", type=bool, default=False, help="drop the rows of files that are gone")
    _add_computing(parser)
    parser.add_argument("--trust_remote_code", type=bool, default=False, help="let the model run code that it brings")
    add_plugins(parser)
    return parser.instantiate(parser.parse_args(list(arguments)))


def _add_computing(parser: ArgumentParser) -> None:
    parser.add_argument("--devices", type=int | str, default=1, help="processes, one a device; 'auto' for all")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="ray: --devices workers of Ray")
    parser.add_argument("--accelerator", type=str, default="auto", help="such as cpu or cuda")
    parser.add_argument(
        "--runtime", choices=("torch", "onnx"), default="torch",
        help="onnx: by onnxruntime on the CPU, which the model is exported for once (extra onnx); so runs a folder of "
        "`rsretrieval export --form onnx`, either way",
    )  # fmt: skip
    parser.add_argument("--precision", type=str, default="32-true", help="of the model's arithmetic, as bf16-mixed")


def run(**settings: Any) -> str:  # noqa: ANN401 - of Options and of embed
    """Embed; what was done, in words.

    Raises:
        ArchiveError: if there is no image, none can be read, or an option is not understood.
        PretrainedError: if there is no such model.
    """
    from dataclasses import fields

    from rsretrieval.archive.embedding import embed
    from rsretrieval.archive.options import Options

    options = Options(**{field.name: settings.pop(field.name) for field in fields(Options)})
    report = embed(options=options, **settings)
    return f"{report}\nnext: rsretrieval index {settings['to']}"
