"""The page says what the profile says, and nothing in it can be made to run."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from profiles import make_document, make_layers, make_row

from gaitedge.errors import GaitEdgeError
from gaitedge.profiling.comparison import compare
from gaitedge.profiling.document import Document, Energy
from gaitedge.profiling.page.parts import all_warnings
from gaitedge.profiling.report import make_report, write_report

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
VOID = {"meta", "br", "img", "input", "link", "hr"}


class Page(HTMLParser):
    """What a page holds: sections, scripts, every attribute that could load or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.scripts = 0
        self.loading: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("src", "href", "action", "srcset", "data") or name.startswith("on"):
                self.loading.append((name, value))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


def page(document: Document) -> Page:
    return Page(make_report(document))


def bare() -> Document:
    """A single row and nothing else."""
    row = dataclasses.replace(make_row(), energy=None, memory=None, clocks={})
    return Document("now", "gaitedge bench a.gait", "a.gait", "ab", {"cpu": None}, {"seconds": 3.0}, [row])


def test_a_full_profile_has_every_section_and_loads_nothing() -> None:
    found = page(make_document())
    sections = ["summary", "warnings", "against", "sweep", "latency", "layers", "roofline", "stages"]
    sections += ["energy", "memory", "environment", "method"]
    assert [name for name in found.ids if name in sections] == sections
    assert len(set(found.ids)) == len(found.ids)
    assert found.open == []
    assert (found.scripts, found.loading) == (2, [])


def test_what_was_not_measured_has_no_section() -> None:
    found = page(bare())
    sections = {"against", "sweep", "layers", "roofline", "stages", "energy", "memory", "warnings"}
    assert not sections & set(found.ids)
    assert {"summary", "latency", "environment", "method"} <= set(found.ids)


def test_a_sensor_that_saw_no_work_is_not_taken_for_none() -> None:
    document = make_document()
    for sensor, why in ((None, "no sensor that may be read"), ("RAPL, package-0", "no more than idle")):
        row = dataclasses.replace(document.rows[0], energy=Energy(sensor, absent="so it is"))
        alone = dataclasses.replace(document, rows=[row], best=None, against=None, layers=None)
        assert f">{why}<" in make_report(alone)


def test_the_figures_are_in_the_page_without_its_script() -> None:
    document = make_document()
    text = " ".join(page(document).text)
    figures = document.rows[1].figures
    assert figures is not None
    for shown in (
        f"{figures.end_to_end.median_ms:.2f}",
        f"{figures.end_to_end.p99_ms:.2f}",
        "faster, 3.12× (95 % interval 3.05 to 3.20)",
        "its process was killed (signal 9), as by a full memory",
        "Not measured: energy_uj may be read by root alone; run as root",
        "the times vary by 6.1 %: end other programs",
        "Most frames a second with a p99 within 10 ms: 1 × 30 frames, openvino, int8",
        "OpenVINO's performance counters",
        "FConv6",
        "245 GMAC/s",
        "walk.mp4: 60 frames",
        document.fingerprint,
        document.command,
    ):
        assert shown in text, shown


def test_energy_that_is_absent_is_said_and_no_zero() -> None:
    absent = Energy(sensor=None, absent="no sensor was found")
    text = " ".join(page(dataclasses.replace(bare(), rows=[make_row()])).text)
    assert "J/sequence" in text
    rows = [dataclasses.replace(make_row(), energy=absent)]
    text = " ".join(page(dataclasses.replace(bare(), rows=rows)).text)
    assert "Not measured: no sensor was found" in text
    assert "J/sequence" not in text


def test_when_nothing_could_be_measured_the_page_says_so() -> None:
    failed = dataclasses.replace(make_row(), figures=None, failed="no memory", samples_ms=[], energy=None)
    text = " ".join(page(dataclasses.replace(bare(), rows=[failed])).text)
    assert "Nothing was measured" in text
    assert "Not measured: no memory" in text


def test_no_name_becomes_markup() -> None:
    document = make_document()
    layers = make_layers()
    odd = [dataclasses.replace(layer, name=EVIL, kind=EVIL, block=EVIL) for layer in layers.layers]
    blocks = [dataclasses.replace(block, name=EVIL) for block in layers.blocks]
    rows = [
        dataclasses.replace(
            row,
            description=EVIL,
            failed=row.failed and EVIL,
            warnings=[EVIL],
            clocks={EVIL: {EVIL: EVIL}},
            configuration=dataclasses.replace(row.configuration, engine=EVIL),
        )
        for row in document.rows
    ]
    assert document.stages is not None
    assert document.against is not None
    evil = dataclasses.replace(
        document,
        bundle=EVIL,
        command=EVIL,
        created=EVIL,
        fingerprint=EVIL,
        environment={EVIL: [EVIL]},
        settings={EVIL: EVIL},
        rows=rows,
        warnings=[EVIL],
        against=dataclasses.replace(document.against, name=EVIL, verdict=EVIL),
        layers=dataclasses.replace(layers, row=1, layers=odd, blocks=blocks, source=EVIL),
        roofline=document.roofline and dataclasses.replace(document.roofline, how=EVIL, precision=EVIL),
        stages=dataclasses.replace(document.stages, source=EVIL),
    )
    found = page(evil)
    assert (found.scripts, found.loading, found.open) == (2, [], [])
    assert " ".join(found.text).count("alert(1)") > 10  # as text


def test_a_comparison_stands_in_the_page() -> None:
    before, after = bare(), dataclasses.replace(bare(), rows=[make_row(typical=7.0)])
    text = " ".join(Page(make_report(after, compare(before, after))).text)
    assert "Above 1, after is faster" in text
    assert re.search(r"\bfaster\b", text)


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_report(make_document(), tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises((OSError, GaitEdgeError)):
        write_report(make_document(), tmp_path / "none" / "page.html")


def test_warnings_that_differ_in_numbers_alone_are_said_once() -> None:
    rows = [
        dataclasses.replace(make_row(batch), warnings=[f"the times vary by {batch}.5%: end other programs"])
        for batch in (1, 2, 3)
    ]
    document = dataclasses.replace(bare(), rows=rows, warnings=["begun anew"])
    assert all_warnings(document) == [
        "begun anew",
        (
            "1 × 30 frames, openvino, fp32, exported, 2 threads: the times vary by 1.5%: end other programs "
            "(and 2 more)"
        ),
    ]
    alone = dataclasses.replace(document, rows=rows[:1])
    assert all_warnings(alone) == ["begun anew", "the times vary by 1.5%: end other programs"]
