"""``rsretrieval localize``: where in a scene something is that a sentence says."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from rsretrieval.cli.plugins import add_plugins, load_plugins

DESCRIPTION = """Where in a large scene something is that a sentence says: a heat map, by windows of several sizes.

The scene's windows are embedded once, and kept in a folder beside it, for any number of queries."""


def main(arguments: Sequence[str]) -> None:
    """Run ``localize``, the first of the arguments."""
    options: Any = vars(_parse(arguments[1:]))
    load_plugins(options.pop("plugins"))
    sys.stdout.write(run(**options) + "\n")


def _parse(arguments: Sequence[str]) -> Any:  # noqa: ANN401
    parser = ArgumentParser(prog="rsretrieval localize", description=DESCRIPTION)
    parser.add_argument("scene", type=str, help="a picture, any raster of GDAL, a .SAFE product or a STAC item")
    parser.add_argument("query", type=str, help="what is looked for, as 'two white planes beside a terminal'")
    parser.add_argument("--model", type=str, default="rsicd-lite", help="what Retriever.from_pretrained takes")
    parser.add_argument("--to", type=str, default="localized", help="folder of heat map, overlay and peaks")
    parser.add_argument(
        "--scales", type=list[int] | None, default=None, help="sides of the windows, in pixels; null for 256, 512, 768"
    )
    parser.add_argument(
        "--smooth", type=str, default="median 251",
        help="of the map: 'median 251' (the paper), 'gaussian 255' (better, by those who published it), or none",
    )  # fmt: skip
    parser.add_argument("--peaks", type=int, default=10, help="places that are listed, at most")
    parser.add_argument("--scale", type=str | None, default=None, help="see `rsretrieval embed --help`")
    parser.add_argument("--bands", type=str | None, default=None, help="see `rsretrieval embed --help`")
    parser.add_argument("--device", type=str, default="cpu", help="where to compute, such as cuda")
    parser.add_argument("--trust_remote_code", type=bool, default=False, help="let the model run code that it brings")
    add_plugins(parser)
    return parser.instantiate(parser.parse_args(list(arguments)))


def run(
    scene: str,
    query: str,
    *,
    model: str,
    to: str,
    scales: list[int] | None,
    smooth: str,
    peaks: int,
    device: str,
    trust_remote_code: bool,
    **reading: Any,  # noqa: ANN401 - of Options
) -> str:
    """Localise; the peaks as a table, and what was written.

    Raises:
        ArchiveError: if it is no scene, or has no pixel with data.
        SmoothingError: if the smoothing is not understood.
        PretrainedError: if there is no such model.
    """
    from rsretrieval.archive.options import Options
    from rsretrieval.archive.pieces import Reader
    from rsretrieval.localization import heat, outputs
    from rsretrieval.localization.scene import SCALES, OpenScene, embed_scene, scene_input
    from rsretrieval.retriever import Retriever

    smoothing, options, sides = heat.Smoothing.parse(smooth), Options(**reading), scales or list(SCALES)
    item = scene_input(scene)
    retriever = Retriever.from_pretrained(
        model, device, scale=options.scale, bands=options.numbers, trust_remote_code=trust_remote_code
    )
    opened = OpenScene(item, Reader(retriever, options))
    windows = embed_scene(retriever, opened, sides)
    began = time.perf_counter()
    found = heat.heat_map(windows, retriever.encode_texts([query])[0].numpy(), smoothing)
    places = heat.peaks(found, min(sides), peaks)
    seconds = time.perf_counter() - began
    files = outputs.write_all(Path(to).expanduser(), opened, query, found, places)
    lines = [f"{'column':>8}{'row':>8}{'value':>8}"]
    lines += [f"{peak.x:>8}{peak.y:>8}{peak.value:>8.2f}" for peak in places]
    lines.append(f"mean cosines from {found.low:.3f} (0) to {found.high:.3f} (1), {len(windows.places)} windows")
    lines.append(f"{seconds:.2f} s for the query; windows kept in {windows.folder}")
    return "\n".join([*lines, "written: " + ", ".join(map(str, files))])
