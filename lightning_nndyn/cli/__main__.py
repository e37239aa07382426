"""``python -m lightning_nndyn.cli``."""

from lightning_nndyn.cli import main

if __name__ == "__main__":
    main()
