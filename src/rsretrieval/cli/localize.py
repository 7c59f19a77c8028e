"""``rsretrieval localize``: where in a scene something is that a sentence says, or which of several things is where."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser

from rsretrieval.cli.lines import lines_with_words
from rsretrieval.cli.plugins import add_plugins, load_plugins

if TYPE_CHECKING:
    from rsretrieval.localization.localizer import Localizer, Method
    from rsretrieval.retriever import Retriever

DESCRIPTION = """Where in a large scene something is that a sentence says: a heat map.

The scene's windows are embedded once, and kept in a folder beside it, for any number of queries."""


def main(arguments: Sequence[str]) -> None:
    """Run ``localize``, the first of the arguments."""
    parser = ArgumentParser(prog="rsretrieval localize", description=DESCRIPTION)
    parser.add_argument("scene", type=str, help="a picture, any raster of GDAL, a .SAFE product or a STAC item")
    with_classes = any(argument.partition("=")[0] == "--queries" for argument in arguments)
    parser.add_argument(
        "query", type=str, nargs="?" if with_classes else None,  # argparse finds a "?" behind options no more
        help="what is looked for, as 'two white planes beside a terminal'",
    )  # fmt: skip
    parser.add_argument(
        "--queries", type=str | None, default=None,
        help="in place of the query: a text file of classes, 'SENTENCE' or 'NAME: SENTENCE' a line, for a map of which "
        "is where",
    )  # fmt: skip
    parser.add_argument(
        "--min_z", "--min-z", type=float, default=1.0, help="a place whose best class has a lower z is of none of them"
    )
    parser.add_argument("--to", type=str, default="localized", help="folder of what is written")
    parser.add_argument("--peaks", type=int, default=10, help="places of a query that are listed, at most")
    parser.add_argument("--peaks_format", type=Literal["geojson", "gpkg"], default="geojson", help="of their file")
    add_method(parser)
    parser.add_argument("--scale", type=str | None, default=None, help="see `rsretrieval embed --help`")
    parser.add_argument("--bands", type=str | None, default=None, help="see `rsretrieval embed --help`")
    options: Any = vars(parser.instantiate(parser.parse_args(list(arguments[1:]))))
    how, load = method_and_model(options)
    sys.stdout.write(run(how=how, load=load, **options) + "\n")


def add_method(parser: ArgumentParser) -> None:
    """The options of how maps are made, and by which model."""
    parser.add_argument("--model", type=str, default="rsicd-lite", help="what Retriever.from_pretrained takes")
    parser.add_argument(
        "--method", type=Literal["tiles", "tokens"], default="tiles",
        help="windows of several sizes; or in one pass a tower's tokens, of CLIPs and where a vector is their mean",
    )  # fmt: skip
    parser.add_argument(
        "--preset", type=str | None, default=None,
        help="of tiles: paper (256, 512, 768 pixels; median 251), small_windows (128, 256, 512; Gaussian 255), "
        "coarse_to_fine (512, and 128 and 256 in the best 15 % of these; Gaussian 255); null for paper",
    )  # fmt: skip
    parser.add_argument(
        "--scales", type=list[int] | None, default=None,
        help="sides of the windows, in pixels; null for the preset's, of tokens (one) for the model's image size",
    )  # fmt: skip
    parser.add_argument(
        "--smooth", type=str | None, default=None,
        help="of a query's map, such as 'median 251', 'gaussian 255' or none; null for the preset's",
    )  # fmt: skip
    parser.add_argument("--device", type=str, default="cpu", help="where to compute, such as cuda")
    parser.add_argument("--trust_remote_code", type=bool, default=False, help="let the model run code that it brings")
    add_plugins(parser)


def method_and_model(options: dict[str, Any]) -> tuple[Method, partial[Retriever]]:
    """Take out of the options what :func:`add_method` added: a method, and what loads the model.

    Raises:
        MethodError: if there is no such way to make a map.
        SmoothingError: if the smoothing is not understood.
    """
    from rsretrieval.localization.localizer import method_of
    from rsretrieval.retriever import Retriever

    load_plugins(options.pop("plugins"))
    how = method_of(**{name: options.pop(name) for name in ("method", "preset", "scales", "smooth")})
    model, device, trust = (options.pop(name) for name in ("model", "device", "trust_remote_code"))
    return how, partial(Retriever.from_pretrained, model, device, trust_remote_code=trust)


def run(
    scene: str,
    query: str | None,
    *,
    how: Method,
    load: partial[Retriever],
    queries: str | None,
    min_z: float,
    to: str,
    peaks: int,
    peaks_format: Literal["geojson", "gpkg"],
    **reading: Any,  # noqa: ANN401 - of Options
) -> str:
    """Localise; the peaks or classes as a table, and what was written.

    Raises:
        ArchiveError: if it is no scene, or has no pixel with data.
        MethodError: for a query and classes at once, or classes that are none.
        TokensError: for tokens of a model whose tokens do not tell.
        PretrainedError: if there is no such model.
    """
    from rsretrieval.archive.options import Options
    from rsretrieval.localization.classes import check_method, named_queries
    from rsretrieval.localization.localizer import Localizer, MethodError
    from rsretrieval.localization.scene import open_scene, scene_input
    from rsretrieval.models.tokens import TokensError

    options = Options(**reading)
    if (query is None) == (queries is None):
        raise MethodError("--queries takes the place of the query: give one of them")
    classes = None
    if queries is not None:
        classes = named_queries(lines_with_words(Path(queries).expanduser(), "--queries", "class", MethodError))
        check_method(how)
    scene_input(scene)  # refused before a model is loaded
    retriever = load(scale=options.scale, bands=options.numbers)
    try:
        localizer = Localizer(open_scene(retriever, scene, options), how)
    except TokensError as error:
        raise TokensError(f"'{load.args[0]}' with --method tokens: {error}") from error
    folder = Path(to).expanduser()
    if classes is not None:
        return _classes(localizer, classes, min_z, folder)
    return _peaks(localizer, str(query), peaks, folder, peaks_format)


def _peaks(localizer: Localizer, query: str, most: int, to: Path, form: Literal["geojson", "gpkg"]) -> str:
    from rsretrieval.localization import heat, outputs

    began = time.perf_counter()
    found = localizer.heat(query)
    places = heat.peaks(found, localizer.reach, most)
    seconds = time.perf_counter() - began
    files = outputs.write_all(to, localizer.scene, query, found, places, form)
    lines = [f"{'column':>8}{'row':>8}{'value':>8}"]
    lines += [f"{peak.x:>8}{peak.y:>8}{peak.value:>8.2f}" for peak in places]
    lines += [] if places else ["no peaks: smoothed, the map stays below half of its range"]
    lines.append(f"mean scores from {found.low:.3f} (0) to {found.high:.3f} (1), {_kept(localizer)}")
    lines.append(f"{seconds:.2f} s for the query")
    return "\n".join([*lines, "written: " + ", ".join(map(str, files))])


def _classes(localizer: Localizer, queries: dict[str, str], least_z: float, to: Path) -> str:
    from rsretrieval.localization import outputs
    from rsretrieval.localization.classes import class_map

    found = class_map(localizer, queries, least_z)
    files = outputs.write_classes(to, localizer.scene, found)
    lines = [f"{100 * share:>6.1f} %  {name}" for name, share in found.shares().items()]
    lines.append(f"z against {found.against}; {_kept(localizer)}")
    return "\n".join([*lines, "written: " + ", ".join(map(str, files))])


def _kept(localizer: Localizer) -> str:
    kind = "cells" if localizer.method.takes_tokens else "windows"
    return f"{len(localizer.windows.places)} {kind} kept in {localizer.windows.folder}"
