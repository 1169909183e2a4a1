"""The JSON document of a measurement: its command, its machine, its settings and what came out."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from gaitedge.files import atomic_write
from gaitedge.machine.environment import environment

__all__ = ["save"]


def save(path: Path, results: Any, **settings: Any) -> None:
    """Write the document of the script that is running, whole or not at all."""
    command = shlex.join(["python", *sys.argv])
    document = {"command": command, "machine": environment(), **settings, "results": results}
    with atomic_write(path) as file:
        file.write(json.dumps(document, indent=1).encode() + b"\n")
