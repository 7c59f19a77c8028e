"""``python -m rsretrieval``."""

from rsretrieval.cli import entry

if __name__ == "__main__":
    entry()
