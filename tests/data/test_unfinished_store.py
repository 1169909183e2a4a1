"""A store whose writer was interrupted, killed or out of room: it is gone on with, or refused."""

from __future__ import annotations

import errno
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from damage import cut, replace_in
from stores import NAMES, fill, walk

from gaitedge.data import store_format
from gaitedge.data.store import Store, StoreWriter, is_store
from gaitedge.errors import StoreError


def unfinished(path: Path, count: int) -> None:
    writer = StoreWriter(path)
    for number, name in enumerate(NAMES[:count]):
        writer.append(*name, walk(number))
    writer.__exit__(KeyboardInterrupt, None, None)


def finish(path: Path) -> int:
    """Append what is missing; how many were there."""
    with StoreWriter(path) as writer:
        there = len(writer.names)
        for number, name in enumerate(NAMES):
            if "/".join(name) not in writer.names:
                writer.append(*name, walk(number))
    return there


def contents(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


def test_a_torn_end_is_cut_away_wherever_it_is_torn(tmp_path: Path) -> None:
    fill(tmp_path / "whole")
    unfinished(tmp_path / "store", 5)
    index, frames = ((tmp_path / "store" / name).read_bytes() for name in ("index.jsonl", "frames.npy"))
    lines = index.splitlines(keepends=True)
    for length in range(len(index) + 1):
        (tmp_path / "store" / "index.jsonl").write_bytes(index[:length])
        (tmp_path / "store" / "frames.npy").write_bytes(frames + b"\1" * (length % 5000))
        (tmp_path / "store" / "store.json").write_bytes(
            json.dumps({"format": "gaitedge-store", "version": 1, "finished": False, "source": ""}).encode()
        )
        expected = sum(1 for number in range(5) if len(b"".join(lines[: number + 1])) <= length)
        if length % 40 == 0 or index[length - 1 : length] == b"\n":
            assert finish(tmp_path / "store") == expected
            assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_blocks_of_zeros_that_a_power_cut_leaves_are_cut_away(tmp_path: Path) -> None:
    fill(tmp_path / "whole")
    unfinished(tmp_path / "store", 5)
    with (tmp_path / "store" / "index.jsonl").open("ab") as file:
        file.write(bytes(700) + b'\n{"subject": "009"}\n')
    assert finish(tmp_path / "store") == 5
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_an_unfinished_store_that_lost_frames_is_refused(tmp_path: Path) -> None:
    unfinished(tmp_path / "store", 5)
    cut(tmp_path / "store" / "frames.npy", 128 + 64 * 44)
    with pytest.raises(StoreError, match=r"frames\.npy is shorter than its index"):
        StoreWriter(tmp_path / "store")


def test_an_unfinished_index_that_was_edited_is_refused(tmp_path: Path) -> None:
    unfinished(tmp_path / "store", 5)
    replace_in(tmp_path / "store" / "index.jsonl", '"start": 3', '"start": 2')
    with pytest.raises(StoreError, match=r"line 2 of index\.jsonl does not fit"):
        StoreWriter(tmp_path / "store")


def test_a_full_disk_leaves_a_store_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "whole")
    write_all = store_format.write_all

    def full(file: object, data: memoryview) -> None:
        write_all(file, data[: len(data) // 2])  # type: ignore[arg-type]
        raise OSError(errno.ENOSPC, "No space left on device")

    def until_full() -> None:
        with StoreWriter(tmp_path / "store") as writer:
            for number, name in enumerate(NAMES):
                if number == 2:
                    writer._sync()  # what is on the disk stays there
                if number == 3:
                    monkeypatch.setattr("gaitedge.data.store.write_all", full)
                writer.append(*name, walk(number))

    with pytest.raises(OSError, match="No space left"):
        until_full()
    monkeypatch.undo()
    assert finish(tmp_path / "store") == 2
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


WRITER = """
import sys, numpy as np
from gaitedge.data import store
store._SYNC_BYTES = 30_000
with store.StoreWriter(sys.argv[1]) as writer:
    print(len(writer.names), flush=True)
    for number in range(400):
        name = f"{number:03}"
        if f"{name}/nm-01/000" not in writer.names:
            rng = np.random.default_rng(number)
            frames = rng.integers(1, 256, (3 + number % 5, 64, 44)).astype(np.uint8)
            writer.append(name, "nm-01", "000", frames, {"1.png": "empty"} if number % 7 == 0 else None)
"""


def is_finished(path: Path) -> bool:
    return is_store(path) and bool(json.loads((path / "store.json").read_bytes())["finished"])


def test_a_writer_killed_at_any_moment_goes_on(tmp_path: Path) -> None:
    def run(path: Path, megabytes: float | None) -> int:
        """Let a writer live until the frames are that long; how many sequences it found."""
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        found = int(process.stdout.readline())
        if megabytes is not None:
            while process.poll() is None and (path / "frames.npy").stat().st_size < megabytes * 1e6:
                time.sleep(rng.uniform(0, 0.002))
            process.send_signal(signal.SIGKILL)
        process.stdout.close()
        code = process.wait()
        assert code in ((0, -signal.SIGKILL) if megabytes is not None else (0,))
        return found

    rng = random.Random(0)
    run(tmp_path / "whole", None)
    whole_size = (tmp_path / "whole" / "frames.npy").stat().st_size / 1e6
    found = [0]
    path = tmp_path / "store"
    found += [run(path, whole_size * step / 9) for step in range(1, 9) if not is_finished(path)]
    if not is_finished(tmp_path / "store"):
        run(tmp_path / "store", None)
    assert found == sorted(found)
    assert found[-1] > 0
    whole, store = Store(tmp_path / "whole"), Store(tmp_path / "store")
    assert whole.sequences == store.sequences
    assert (whole.frames == store.frames).all()
    assert contents(tmp_path / "whole") == {
        name: data for name, data in contents(tmp_path / "store").items() if not name.startswith(".")
    }
