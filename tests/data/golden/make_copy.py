"""Writes the repository's small copy of the reference numbers: ``python tests/data/golden/make_copy.py``.

Copies from the folder that RSRETRIEVAL_GOLDEN_DIR names, by default ``../shared/golden`` beside the checkout, whose
README says how the numbers were made. The other files of that folder are too large for the repository.
"""

import os
import shutil
from pathlib import Path

HERE = Path(__file__).parent
SHARED = HERE.parents[3] / "shared" / "golden"
FILES = ("losses_small.npz",)


def make_copy(source: Path, target: Path) -> None:
    """Copy the small files from one folder to another.

    Raises:
        FileNotFoundError: naming the files that are missing, and the setting.
    """
    missing = [name for name in FILES if not (source / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{missing} are not in '{source}': set RSRETRIEVAL_GOLDEN_DIR to a folder that has them"
        )
    for name in FILES:
        shutil.copyfile(source / name, target / name)


if __name__ == "__main__":
    make_copy(Path(os.environ.get("RSRETRIEVAL_GOLDEN_DIR", SHARED)), HERE)
