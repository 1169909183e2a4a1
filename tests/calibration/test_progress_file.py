from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from damage import a_folder, cut, replace_in, written
from hypothesis import given
from hypothesis import strategies as st

from gaitedge.calibration.observers import Histogram
from gaitedge.calibration.progress_file import ProgressFile


def counted(*values: float) -> dict[str, Histogram]:
    first, second = Histogram(), Histogram()
    first.add(np.array(values, np.float32))
    return {"fconv1.relu": first, "hp": second}


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)), st.integers(0, 500))
def test_what_is_written_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], done: int
) -> None:
    file = ProgressFile(tmp_path_factory.mktemp("progress") / "file", "ab")
    file.write(3, {})
    file.write(done, counted(*values))
    found_done, found = file.read()
    assert found_done == done
    for name, histogram in counted(*values).items():
        assert (found[name].counts == histogram.counts).all()
        assert found[name].counts.dtype == np.int64
        assert (found[name].exponent, found[name].largest) == (histogram.exponent, histogram.largest)
    histogram = found["fconv1.relu"]
    histogram.add(np.array([1e9], np.float32))  # and it goes on
    assert histogram.largest >= np.float32(1e9)
    assert histogram.total == len(values) + 1


def test_what_another_collection_left_is_not_read(tmp_path: Path) -> None:
    ProgressFile(tmp_path / "file", "ab").write(25, counted(1, 2))
    assert ProgressFile(tmp_path / "file", "cd").read() == (0, {})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("a note of somebody's\n"),
        lambda path: cut(path, path.stat().st_size - 1),
        lambda path: cut(path, 70),
        lambda path: replace_in(path, '"done": 25', '"done": 26'),
        a_folder,
        lambda path: written(path, b"\x00\xff" * 100),
    ],
)
def test_what_is_damaged_or_something_else_is_not_read(spoil, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = ProgressFile(tmp_path / "file", "ab")
    file.write(25, counted(1, 2))
    spoil(tmp_path / "file")
    assert file.read() == (0, {})


def test_writing_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path / "file", "ab")
    file.write(25, counted(1))
    file.write(50, counted(1, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read()[0] == 50
