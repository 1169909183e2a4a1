"""`python -m gaitedge`: the same as the command `gaitedge`."""

from gaitedge.cli import main

if __name__ == "__main__":
    main()
