"""Pictures and rasters to an archive of embeddings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from rsretrieval import __version__
from rsretrieval.archive.encode import Encoder
from rsretrieval.archive.finish import finish
from rsretrieval.archive.ground import TrainingScale
from rsretrieval.archive.inputs import find_inputs
from rsretrieval.archive.lock import alone
from rsretrieval.archive.options import Options
from rsretrieval.archive.pieces import Reader
from rsretrieval.archive.processes import Processes
from rsretrieval.archive.state import State, vanished
from rsretrieval.archive.work import Report, Work, report
from rsretrieval.embeddings import ArchiveError, EmbeddingsFile
from rsretrieval.embeddings.file import NAME
from rsretrieval.embeddings.rows import DataType, schema
from rsretrieval.lazy import needs
from rsretrieval.models.onnx_encoder import OnnxEncoder, is_graphs
from rsretrieval.models.pretrained import find_model
from rsretrieval.retriever import Retriever
from rsretrieval.settings import plain


def embed(
    model: str | Retriever,
    images: Sequence[str] | str,
    to: str | Path,
    *,
    options: Options | None = None,
    root: str | None = None,
    dtype: DataType = "float16",
    batch_size: int = 64,
    workers: int | None = None,
    prune: bool = False,
    devices: int | str = 1,
    accelerator: str = "auto",
    precision: str = "32-true",
    engine: Literal["local", "ray"] = "local",
    progress: bool = True,
    runtime: Literal["torch", "onnx"] = "torch",
    trust_remote_code: bool = False,
) -> Report:
    """Embed images, and sort them into the archive in a folder; called again it goes on, and reads what is new.

    Args:
        model: any name of :meth:`Retriever.from_pretrained`.
        images: folders, patterns, files (pictures, rasters, products of Sentinel-2, STAC items, parquet, tar), or
            ``hf://datasets/OWNER/NAME``.
        to: folder of the archive.
        options: how images become rows.
        root: folder that sources are relative to; None for what the archive has, or else the images' own folder.
        dtype: how embeddings are stored: ``float16``, ``float32`` or ``int8``.
        batch_size: pictures that are encoded at once.
        workers: threads that read ahead; None for one a core.
        prune: drop the rows of files that are no longer there.
        devices: how many processes, one a device.
        accelerator: see Lightning's Fabric.
        precision: likewise.
        engine: ``local``, or ``ray`` for workers of Ray Data on its cluster, as many as ``devices``.
        progress: show a bar with the rate and the time left.
        runtime: ``onnx`` for graphs of the model on the CPU, made once and kept in the cache.
        trust_remote_code: let the model run Python code that comes with it.

    Returns:
        What was done; on other processes than the first what they know.

    Raises:
        ArchiveError: if there is no image, none can be read, an option is not understood, or the folder is another
            model's archive.
        OSError: naming the file, where the disk is full; called again it goes on.
    """
    options = options or Options()
    folder = Path(to).expanduser()
    names = [images] if isinstance(images, str) else list(images)
    if batch_size < 1 or (workers is not None and workers < 1):
        raise ArchiveError(f"batch_size={batch_size}, workers={workers}: give whole numbers, 1 or more")
    base = _root(root, names, folder)
    inputs = find_inputs(names, base, folder)
    if engine == "ray":
        needs("ray", "ray")
    by_graphs = runtime == "onnx" or (
        is_graphs(model) if isinstance(model, str) else isinstance(model.model, OnnxEncoder)
    )
    if by_graphs and precision != "32-true":
        raise ArchiveError(f"graphs of ONNX compute in their own precision: leave out --precision {precision}")
    accelerator = "cpu" if by_graphs and accelerator == "auto" else accelerator
    processes = Processes(1 if engine == "ray" else devices, accelerator, precision)
    retriever, trained_on = _retriever(model, options, runtime, trust_remote_code=trust_remote_code)
    reader = Reader(retriever, options, TrainingScale(trained_on))
    about = _about(retriever, str(model) if isinstance(model, str) else "", folder, base, options, dtype, reader)
    folder.mkdir(parents=True, exist_ok=True)
    with processes.first_alone(lambda: alone(folder)):
        work = Work.of(State(folder, about), inputs, options)
        processes.wait()  # until all know what is there, before any writes
        parts = (retriever, reader, processes, about, folder, batch_size, workers or os.cpu_count() or 1)
        encoder = _ray_encoder(devices, *parts) if engine == "ray" else Encoder(*parts)
        added = encoder.run(work.to_do, work.ids, progress=progress)
        processes.wait()
        if processes.rank > 0:
            return Report(folder, 0, added, 0, [], [], 0, 0)
        gone = vanished([*work.state.sources], base)
        if work.to_do or work.state.shards or (gone and prune):
            end = finish(folder, about, work.now, set(gone) if prune else set())
        else:
            end = work.state
        return report(folder, end, work, added, gone)


def _ray_encoder(devices: int | str, *parts: Any) -> Encoder:  # noqa: ANN401 - of the encoder
    from rsretrieval.archive.ray_engine import RayEncoder

    encoder = RayEncoder(*parts)
    encoder.actors = None if devices == "auto" else int(devices)
    return encoder


def _root(root: str | None, images: Sequence[str], folder: Path) -> Path:
    """The folder that sources are relative to."""
    known = None
    if (folder / NAME).exists():
        known = Path(os.path.normpath(folder / EmbeddingsFile(folder).about["root"]))
    if root is not None:
        base = Path(root).expanduser()
        if known is not None and base.resolve() != known.resolve():
            raise ArchiveError(
                f"the sources of '{folder}' are relative to '{known}', not to '{root}': leave out --root, or give "
                "another folder --to"
            )
        return base
    if known is not None:
        return known
    folders = []
    for image in images:
        if "://" in image:
            continue
        fixed = Path(image.partition("*")[0].partition("?")[0].partition("[")[0]).expanduser()
        exact = Path(image).expanduser()
        path = exact if exact.exists() else fixed
        folders.append(os.path.abspath(path if path.is_dir() and path.suffix.upper() != ".SAFE" else path.parent))
    return Path(os.path.commonpath(folders)) if folders else folder


def _retriever(
    model: str | Retriever, options: Options, runtime: Literal["torch", "onnx"], *, trust_remote_code: bool
) -> tuple[Retriever, tuple[str, ...]]:
    """The model, and the names of the data sets that it was trained on as far as they are known."""
    if isinstance(model, Retriever):
        if runtime == "onnx" and not isinstance(model.model, OnnxEncoder):
            raise ArchiveError("runtime=onnx takes the name of a model, or a retriever of a folder of graphs")
        return model, ()
    source = find_model(model, trust_remote_code=trust_remote_code)
    if runtime == "onnx" and source.graphs is None:
        from rsretrieval.models.graph_folder import cached_graphs

        source = replace(source, graphs=OnnxEncoder(cached_graphs(source), trust_remote_code=trust_remote_code))
    settings = (source.image_size, source.max_words, None, options.scale, options.numbers)
    return Retriever(source.build(), *settings), source.trained_on


def _name(model: str, folder: Path) -> str:
    """The model's name; of a folder or file the way to it from the archive, so that both can be moved together."""
    path = Path(model).expanduser()
    return Path(os.path.relpath(path, folder)).as_posix() if model and path.exists() else model


def _about(
    retriever: Retriever, name: str, folder: Path, root: Path, options: Options, dtype: DataType, reader: Reader
) -> dict[str, Any]:
    """What the file says under ``emb``."""
    schema(retriever.model.embed_dim, dtype)  # refuses an unknown type
    preprocessing = {**plain(retriever.model.config.preprocessing), "image_size": retriever.image_size}
    tiling = reader.tiling
    return {
        "type": "chip",
        "dimensions": retriever.model.embed_dim,
        "data_type": dtype,
        "model": {"name": _name(name, folder), "digest": retriever.digest},
        "preprocessing": preprocessing,
        "chip_layout": {"chip_size": str(tiling.size), "overlap": str(tiling.overlap), "gsd": tiling.gsd},
        "options": asdict(options),
        "root": Path(os.path.relpath(root, folder)).as_posix(),
        "written_by": f"rsretrieval {__version__}",
    }
