"""What each part of the method is worth: configurations that differ in it, trained over several seeds.

    python benchmarks/ablation.py --path FOLDER [--rows a b c] [--seeds 0 1 2] [--epochs 12]

Runs ``rsretrieval fit`` with ``configs/rsicd_lite.yaml``, ``benchmarks/ablation.yaml`` (the base) and the row's file of
``benchmarks/ablation``, whose first line is its title. The figure is validation mR after the last epoch (no epoch is
chosen), of averaged weights. Each run is a folder below ``--out``: one that is finished is not made again, one that was
interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from hashlib import blake2b
from pathlib import Path

import yaml
from curves import series

from rsretrieval.cli import main as rsretrieval

HERE = Path(__file__).parent
BASE = [HERE.parent / "configs" / "rsicd_lite.yaml", HERE / "ablation.yaml"]
ROWS = {file.stem: file for file in sorted((HERE / "ablation").glob("*.yaml"))}


def settings_of(row: str, args: argparse.Namespace) -> list[str]:
    """A row's options of the command line beside its configurations, the same for every seed."""
    settings = {
        "trainer.max_epochs": args.epochs,
        "data.path": Path(args.path).resolve(),
        "data.captions_per_image": args.captions,
        "data.augmentation": "none" if args.views == 1 else "flips",
        "model.encoder.eval_views": args.views,
    }
    if args.scene_file:
        settings["data.scene_file"] = Path(args.scene_file).resolve()
    first, *second = yaml.safe_load(ROWS[row].read_text()).get("schedule", {}).get("stages", [None])
    if second:  # begins in the middle, as in the paper
        middle = {**second[0], "from_epoch": max(round(args.epochs / 2), 1)}
        settings["schedule.stages"] = json.dumps([first, middle])
    return [f"--{name}={value}" for name, value in settings.items()] + [f"--{setting}" for setting in args.set]


def train(row: str, seed: int, args: argparse.Namespace) -> float:
    """Validation mR after the last epoch of a run, which is made or finished first where it needs to be."""
    configs, settings = [*BASE, ROWS[row]], settings_of(row, args)
    # The folder of a run changes with anything that is set.
    contents = json.dumps([*(yaml.safe_load(file.read_text()) for file in configs), settings])
    run = args.out / f"{row}-{seed}-{blake2b(contents.encode(), digest_size=4).hexdigest()}"
    checkpoints = run / "checkpoints"
    if figure(run, args.epochs) is None:
        resume = ["--ckpt_path=last"] if list(checkpoints.glob("last*.ckpt")) else []
        files = [argument for file in configs for argument in ("-c", str(file))]
        where = [f"--trainer.default_root_dir={run}", f"--seed_everything={seed}"]
        rsretrieval(["fit", *files, *settings, *where, *resume])
    found = figure(run, args.epochs)
    if found is None:
        raise SystemExit(f"'{run}' is trained to its end and has no val/mR of its last epoch: remove it, and run again")
    shutil.rmtree(checkpoints, ignore_errors=True)  # most of a run's bytes, and nobody asks for them any more
    return found


def figure(run: Path, epochs: int) -> float | None:
    """Validation mR after the last epoch, from the run's log; None before that."""
    by_epoch = dict(zip(*series(run, "val/mR", "epoch"), strict=True))
    return by_epoch.get(epochs - 1)


def main() -> None:
    """Make the runs that are missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", required=True, help="folder of train-*.parquet and valid-*.parquet")
    parser.add_argument("--scene_file", help="JSON of file name to scene class")
    default = ["a", "c", "d", "d-mask", "d-integer", "d-release", "e", "f-losses"]
    parser.add_argument("--rows", nargs="+", default=default, choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--captions", type=int, default=1, help="of each image an epoch")
    views = "mirrorings of an image in evaluation; with 1 there are none in training either"
    parser.add_argument("--views", type=int, default=4, choices=(1, 2, 4), help=views)
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="further settings of `rsretrieval fit`"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    args = parser.parse_args()
    lines = []
    for row in args.rows:
        found = [train(row, seed, args) for seed in args.seeds]
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        title = ROWS[row].read_text().partition("\n")[0].removeprefix("# ")
        lines.append(f"| {row} | {title} | {statistics.mean(found):.2f} ± {spread:.2f} | {len(found)} |")
    print("\n".join(lines))  # noqa: T201 - a command's output


if __name__ == "__main__":
    main()
