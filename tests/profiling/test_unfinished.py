"""What a sweep has measured survives a kill at any moment, and is nobody else's."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from processes import linux

from gaitedge.errors import InputError
from gaitedge.profiling.unfinished import UnfinishedSweep, remove_unfinished, unfinished

ENTRIES = [{"row": 0, "times": [1.5, 2.0]}, {"row": 1, "failed": "für nichts"}, {"row": 0, "times": []}]


def entries_of(path: Path, key: str = "key") -> list[Any]:
    with UnfinishedSweep(path, key) as saved:
        return saved.entries


def test_entries_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for number, entry in enumerate(ENTRIES):
        with UnfinishedSweep(path, "key") as saved:
            assert not saved.replaced
            assert saved.entries == ENTRIES[:number]
            saved.add(entry)
            assert saved.entries == ENTRIES[: number + 1]
    with UnfinishedSweep(path, "key") as saved:
        assert saved.entries == ENTRIES


def test_a_kill_at_any_byte_costs_the_last_line_at_most(tmp_path: Path) -> None:
    path = tmp_path / "file"
    ends = []
    with UnfinishedSweep(path, "key") as saved:
        for entry in ENTRIES:
            saved.add(entry)
            ends.append(path.stat().st_size)
    whole = path.read_bytes()
    near = {end + step for end in (0, *ends) for step in range(-2, 3)}
    for size in sorted(near & set(range(len(whole)))) + list(range(0, len(whole), 37)):
        path.write_bytes(whole[:size])
        with UnfinishedSweep(path, "key") as found:
            assert found.entries == ENTRIES[: sum(end <= size for end in ends)]
            found.add("the next")
        assert entries_of(path) == [*found.entries[:-1], "the next"]


@pytest.mark.parametrize(
    ("call", "number", "kept"),
    [
        ("ftruncate", 1, 0),
        ("ftruncate", 2, 1),
        ("write", 1, 0),
        ("write", 2, 1),
        ("fsync", 1, 1),
        ("fsync", 2, 1),  # of the folder
        ("fsync", 3, 2),
    ],
)
def test_an_interrupt_costs_what_is_not_written_yet(
    call: str, number: int, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, work, calls = tmp_path / "file", getattr(os, call), itertools.count(1)

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == number:
            raise KeyboardInterrupt
        return work(*arguments)

    def measure() -> None:
        with UnfinishedSweep(path, "key") as saved:
            for entry in ENTRIES:
                saved.add(entry)

    with monkeypatch.context() as context:
        context.setattr(os, call, interrupted)
        with pytest.raises(KeyboardInterrupt):
            measure()
    assert entries_of(path) == ENTRIES[:kept]


def test_another_sweeps_file_is_replaced_once_there_is_something(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with UnfinishedSweep(path, "key") as saved:
        saved.add(1)
    with UnfinishedSweep(path, "other") as other:
        assert other.replaced
        assert other.entries == []
    assert entries_of(path) == [1]  # until then it is kept
    with UnfinishedSweep(path, "other") as other:
        other.add(2)
    assert entries_of(path, "other") == [2]
    assert entries_of(path) == []


def test_a_damaged_line_and_what_follows_are_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with UnfinishedSweep(path, "key") as saved:
        for entry in ENTRIES:
            saved.add(entry)
    data = bytearray(path.read_bytes())
    data[data.index(b"nichts")] ^= 1
    path.write_bytes(data)
    assert entries_of(path) == ENTRIES[:1]


@linux
def test_two_at_once_do_not_write_into_each_other(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    path = unfinished(out)
    with UnfinishedSweep(path, "key") as first, UnfinishedSweep(path, "key") as second:
        first.add(1)
        before = path.read_bytes()
        with pytest.raises(InputError, match="another process is at work on the same profile"):
            second.add(2)
        with pytest.raises(InputError, match="another process is at work"):
            UnfinishedSweep(path, "other")
        remove_unfinished(out)  # as one does that began before this one
        assert path.read_bytes() == before
        first.add(3)
    assert entries_of(path) == [1, 3]
    remove_unfinished(out)
    remove_unfinished(out)
    assert not path.exists()


@linux
def test_a_disk_that_is_full_at_first_keeps_no_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"

    def full(descriptor: int, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with UnfinishedSweep(path, "key") as saved, monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left on device") as failed:
            saved.add(1)
        assert failed.value.filename == str(path)
        assert not path.exists()


def test_it_lies_beside_the_profile(tmp_path: Path) -> None:
    assert unfinished(tmp_path / "a.json") == tmp_path / ".a.json.unfinished"
