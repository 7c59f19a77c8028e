"""What the images' tests share: ``wide.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
