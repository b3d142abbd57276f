"""`python -m qatspec` is the command `qatspec`."""

from qatspec.cli.main import main

if __name__ == "__main__":
    main()
