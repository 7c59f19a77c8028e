"""``python -m rsretrieval``."""

from rsretrieval.cli import main

if __name__ == "__main__":
    main()
