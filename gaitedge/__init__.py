"""GaitEdge: gait recognition with GaitPart, from training to a camera box.

Importing the package costs nothing: each name below loads its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaitedge.bundle import Bundle
    from gaitedge.config import GaitPartConfig
    from gaitedge.engines import load
    from gaitedge.errors import GaitEdgeError
    from gaitedge.people.gallery import Gallery
    from gaitedge.people.recognizer import Recognizer

__version__ = "0.1.0"

__all__ = ["Bundle", "GaitEdgeError", "GaitPartConfig", "Gallery", "Recognizer", "load"]

_HOMES = {
    "Bundle": "gaitedge.bundle",
    "GaitEdgeError": "gaitedge.errors",
    "GaitPartConfig": "gaitedge.config",
    "Gallery": "gaitedge.people.gallery",
    "Recognizer": "gaitedge.people.recognizer",
    "load": "gaitedge.engines",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
