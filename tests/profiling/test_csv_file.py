"""A spreadsheet gets every figure, and runs nothing."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

from profiles import make_document

from gaitedge.profiling.csv_file import columns, write_csv


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_line_a_row_with_units_in_the_names(tmp_path: Path) -> None:
    document = make_document()
    write_csv(document, tmp_path / "profile.csv")
    lines = read(tmp_path / "profile.csv")
    assert len(lines) == len(document.rows)
    assert list(lines[0]) == columns()
    row, line = document.rows[1], lines[1]
    assert row.figures is not None
    assert row.energy is not None
    assert (line["engine"], line["precision"], line["batch"], line["frames"]) == (
        "openvino",
        "fp32",
        "1",
        "30",
    )
    assert float(line["end_to_end_median_ms"]) == row.figures.end_to_end.median_ms
    assert float(line["end_to_end_p99_ms"]) == row.figures.end_to_end.p99_ms
    assert line["host_to_device_median_ms"] == ""  # a CPU's engine has none, which is not zero
    assert float(line["energy_joules_a_sequence"]) == row.energy.joules_a_sequence
    assert line["warnings"] == "the times vary by 6.1 %: end other programs"


def test_what_failed_says_why_and_has_no_figures(tmp_path: Path) -> None:
    write_csv(make_document(), tmp_path / "profile.csv")
    line = read(tmp_path / "profile.csv")[5]
    assert line["failed"].startswith("its process was killed")
    assert line["end_to_end_median_ms"] == line["process_peak_bytes"] == ""


def test_no_text_becomes_a_formula_or_another_line(tmp_path: Path) -> None:
    document = make_document()
    rows = [dataclasses.replace(document.rows[0], description='=HYPERLINK("x"), "a"\nb')]
    write_csv(dataclasses.replace(document, rows=rows), tmp_path / "profile.csv")
    (line,) = read(tmp_path / "profile.csv")
    assert line["description"] == '\'=HYPERLINK("x"), "a"\nb'
