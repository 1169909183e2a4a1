"""The command line: every command parses, calls one public function of its name, and prints."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command `gaitedge`. Exit 0 done, 1 the user's input or environment, 2 wrong usage."""
    try:
        from gaitedge.cli.app import app
    except KeyboardInterrupt:  # Ctrl-C while the modules load
        sys.exit("interrupted")
    app()
