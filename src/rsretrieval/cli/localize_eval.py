"""``rsretrieval localize-eval``: Rsu, Ras, Rda and Rmi over a set in AIR-SLT's layout."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from rsretrieval.cli.localize import add_method, method_and_model

if TYPE_CHECKING:
    from rsretrieval.localization.localizer import Method
    from rsretrieval.retriever import Retriever

DESCRIPTION = """Figures of semantic localisation over annotated scenes (anno.json, as AIR-SLT has it), as a table.

Rsu, Rda and Rmi are better the higher, Ras the lower (Yuan et al., IEEE TGRS 60, 2022)."""


def main(arguments: Sequence[str]) -> None:
    """Run ``localize-eval``, the first of the arguments."""
    parser = ArgumentParser(prog="rsretrieval localize-eval", description=DESCRIPTION)
    parser.add_argument("folder", type=str, help="with anno.json, or with annotations/anno.json; images in imgs")
    parser.add_argument("--to", type=str, default="localized-eval", help="folder of figures.csv and cases.png")
    parser.add_argument(
        "--jpeg", type=bool, default=False, help="measure maps as a JPEG has them, as the public program does"
    )
    add_method(parser)
    options: Any = vars(parser.instantiate(parser.parse_args(list(arguments[1:]))))
    how, load = method_and_model(options)
    sys.stdout.write(run(how=how, load=load, **options) + "\n")


def run(folder: str, *, how: Method, load: partial[Retriever], to: str, jpeg: bool) -> str:
    """Evaluate; a table by image.

    Raises:
        ArchiveError: if there are no annotations, or they cannot be understood.
        TokensError: for tokens of a model whose tokens do not tell.
        PretrainedError: if there is no such model.
    """
    from rsretrieval.localization.evaluation import evaluate, read_cases, table
    from rsretrieval.localization.localizer import Localizer
    from rsretrieval.localization.scene import open_scene

    cases, out = read_cases(Path(folder).expanduser()), Path(to).expanduser()
    retriever = load()
    found = evaluate(cases, lambda image: Localizer(open_scene(retriever, str(image)), how), out, jpeg=jpeg)
    means = [row for row in table(found) if row[1] == "mean"]
    counts = [*Counter(one.case.image for one in found).values(), len(found)]
    lines = [f"{'image':<24}{'cases':>6}" + "".join(f"{name:>8}" for name in ("Rsu", "Ras", "Rda", "Rmi"))]
    for count, (image, _, _, *figures) in zip(counts, means, strict=True):
        lines.append(f"{image!s:<24}{count:>6}" + "".join(f"{figure:>8.4f}" for figure in figures))
    return "\n".join([*lines, f"written: {out / 'figures.csv'}, {out / 'cases.png'}"])
