"""The command line as ``python -m aeflow``."""

from aeflow.cli import main

if __name__ == "__main__":
    main()
