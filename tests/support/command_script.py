"""`nndyn`, as users' shells run it: python command_script.py ARGUMENT..."""

from lightning_nndyn.cli import main

if __name__ == "__main__":
    main()
