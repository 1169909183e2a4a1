"""A profile as one page of HTML that needs nothing else: no network and no other file.

What a document says is escaped, for it may come from somebody else; the page's own policy lets nothing be
loaded. Sections without data are left out, or say why there is none.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterable
from pathlib import Path

from gaitedge import __version__
from gaitedge.files import atomic_write
from gaitedge.profiling.comparison import Comparison
from gaitedge.profiling.document import Document
from gaitedge.profiling.page import breakdown, sections
from gaitedge.profiling.page import sweep as rows
from gaitedge.profiling.page.parts import METRICS, cells, element

__all__ = ["make_report", "write_report"]

_TEMPLATE = "profile.html"


def write_report(document: Document, out: Path, comparison: Comparison | None = None) -> None:
    """Write the page, whole or not at all. comparison: of this document with an earlier one, shown first."""
    page = make_report(document, comparison)
    with atomic_write(out) as file:
        file.write(page.encode())


def make_report(document: Document, comparison: Comparison | None = None) -> str:
    """The page as text."""
    title = f"GaitEdge profile of {Path(document.bundle).name}"
    body = "\n".join(
        (
            sections.head(document),
            sections.summary(document),
            *_present(
                sections.warnings(document),
                sections.compared(comparison),
                sections.against(document),
                rows.sweep(document),
                rows.row_panels(document),
                breakdown.layers(document),
                breakdown.roofline(document),
                breakdown.stages(document),
                sections.energy(document),
                sections.memory(document),
            ),
            sections.environment(document),
            sections.method(document),
            f"<footer>GaitEdge {__version__}. This page is complete: it loads nothing.</footer>",
        )
    )
    data = {"cells": cells(document), "metrics": {key: each.about for key, each in METRICS.items()}}
    # "<" would let a name of the document end the script; JSON may say it otherwise.
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e")
    template = importlib.resources.files("gaitedge").joinpath("assets").joinpath(_TEMPLATE).read_text("utf-8")
    before, rest = template.split("@TITLE@")
    between, rest = rest.split("@BODY@")
    last, after = rest.split("@DATA@")
    return "".join((before, element("", title), between, body, last, text, after))


def _present(*parts: str | None) -> Iterable[str]:
    return (part for part in parts if part)
