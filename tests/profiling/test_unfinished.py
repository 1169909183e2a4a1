"""What a sweep has measured survives a kill at any moment, and is nobody else's."""

from __future__ import annotations

from pathlib import Path

from gaitedge.profiling.unfinished import UnfinishedSweep, unfinished

ENTRIES = [{"row": 0, "times": [1.5, 2.0]}, {"row": 1, "failed": "für nichts"}, {"row": 0, "times": []}]


def test_entries_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    saved = UnfinishedSweep(path, "key")
    for number, entry in enumerate(ENTRIES):
        assert saved.entries == ENTRIES[:number]
        saved.add(entry)
        again = UnfinishedSweep(path, "key")
        assert again.entries == ENTRIES[: number + 1]
        assert not again.replaced


def test_a_kill_at_any_byte_costs_the_last_line_at_most(tmp_path: Path) -> None:
    path = tmp_path / "file"
    ends = []
    saved = UnfinishedSweep(path, "key")
    for entry in ENTRIES:
        saved.add(entry)
        ends.append(path.stat().st_size)
    whole = path.read_bytes()
    near = {end + step for end in (0, *ends) for step in range(-2, 3)}
    for size in sorted(near & set(range(len(whole)))) + list(range(0, len(whole), 37)):
        path.write_bytes(whole[:size])
        found = UnfinishedSweep(path, "key")
        assert found.entries == ENTRIES[: sum(end <= size for end in ends)]
        found.add("the next")
        assert UnfinishedSweep(path, "key").entries == [*found.entries[:-1], "the next"]


def test_another_sweeps_file_is_replaced_once_there_is_something(tmp_path: Path) -> None:
    path = tmp_path / "file"
    UnfinishedSweep(path, "key").add(1)
    other = UnfinishedSweep(path, "other")
    assert other.replaced
    assert other.entries == []
    assert UnfinishedSweep(path, "key").entries == [1]  # until then it is kept
    other.add(2)
    assert UnfinishedSweep(path, "other").entries == [2]
    assert UnfinishedSweep(path, "key").entries == []


def test_a_damaged_line_and_what_follows_are_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    saved = UnfinishedSweep(path, "key")
    for entry in ENTRIES:
        saved.add(entry)
    data = bytearray(path.read_bytes())
    data[data.index(b"nichts")] ^= 1
    path.write_bytes(data)
    assert UnfinishedSweep(path, "key").entries == ENTRIES[:1]


def test_it_lies_beside_the_profile(tmp_path: Path) -> None:
    assert unfinished(tmp_path / "a.json") == tmp_path / ".a.json.unfinished"
