"""The command line: every command parses, calls one public function of its name, and prints."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from gaitedge.cli.interrupt import INTERRUPTED, Interrupt

__all__ = ["main"]


def main() -> None:
    """Run the command `gaitedge`. Exit 0 done, 1 the user's input or environment, 2 wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be text
    interrupt = Interrupt()
    interrupt.take_over()
    try:
        from gaitedge.cli.app import app

        app()
    except (KeyboardInterrupt, SystemExit) as end:
        interrupt.let_go()
        if isinstance(end, SystemExit) and end.code != 130:  # with which typer ends what slips through
            raise
        sys.exit(INTERRUPTED)
