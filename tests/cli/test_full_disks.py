"""A full disk costs one clear line; nothing is left half-written, and with room the command completes."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import Done, apart, check_refusal, contents, remains, succeed
from processes import ENVIRONMENT, linux

from gaitedge.people.gallery import Gallery

pytestmark = linux


def limited(bytes_: int) -> Callable[[], None]:
    """No file may grow beyond this."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))


def writing(name: str, here: Path, things: dict[str, Path]) -> tuple[list[object], str]:
    """A command that writes into a folder, and the name in its complaint."""
    few = ["--subjects", 1, "--views", "090", "--conditions", "nm-01,nm-05"]
    return {
        "export": (["export", things["weights"], here / "new.gait"], "new.gait"),
        "enroll": (["enroll", things["bundle"], here / "new.db", things["store"]], "new.db"),
        "enroll more": (["enroll", things["bundle"], here / "old.db", things["store"]], "old.db"),
        "gallery export": (["gallery", "export", things["people"], here / "new.npz"], "new.npz"),
        "synth": (["synth", here / "raw", *few], "raw"),
        "synth --store": (["synth", here / "store", *few, "--store"], "store"),
        "prepare": (["prepare", things["raw"], here / "store"], "store"),
        "prepare by 2": (["prepare", things["raw"], here / "store", "--workers", 2], "store"),
    }[name]


WRITING = [
    "export",
    "enroll",
    "enroll more",
    "gallery export",
    "synth",
    "synth --store",
    "prepare",
    "prepare by 2",
]


@pytest.fixture
def things(weights: Path, bundle: Path, raw: Path, store: Path, enrolled: Path) -> dict[str, Path]:
    return {"weights": weights, "bundle": bundle, "raw": raw, "store": store, "people": enrolled}


def check_full(name: str, done: Done, here: Path, what: str, before: dict[str, str]) -> None:
    """One line that names the file and what to do; nothing new, but for work that can be gone on with."""
    check_refusal(done, what, str(here))
    assert "; " in done.stderr
    assert remains(here) == []
    if not name.startswith(("synth", "prepare")):
        assert contents(here) == before


@pytest.mark.parametrize("name", WRITING)
def test_a_file_that_may_not_grow(name: str, things: dict[str, Path], tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(things["people"], here / "old.db")
    before = contents(here)
    command, what = writing(name, here, things)
    size = {"synth": 250, "enroll more": 4096, "gallery export": 500}.get(name, 9000)
    check_full(name, apart(*command, env=ENVIRONMENT, preexec_fn=limited(size)), here, what, before)
    completes(name, command, here, tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("name", WRITING)
def test_a_full_disk(name: str, things: dict[str, Path], small_disk: Path, tmp_path: Path) -> None:
    shutil.copy(things["people"], small_disk / "old.db")
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    room = {"synth": 16, "synth --store": 60, "prepare": 60, "prepare by 2": 60, "gallery export": 0}.get(
        name, 8
    ) * 1024
    os.truncate(small_disk / "filler", (small_disk / "filler").stat().st_size - room)
    before = contents(small_disk)
    command, what = writing(name, small_disk, things)
    done = apart(*command, env=ENVIRONMENT)
    check_full(name, done, small_disk, what, before)
    (small_disk / "filler").unlink()
    completes(name, command, small_disk, tmp_path)


def completes(name: str, command: list[object], here: Path, elsewhere: Path) -> None:
    """The same command now gives what it gives where there is room at once."""
    succeed(*command)
    if name.startswith(("synth", "prepare")):
        out = Path(str(command[2 if name.startswith("prepare") else 1]))
        again = [*command]
        again[command.index(out)] = elsewhere / "again"
        succeed(*again)
        names = {"frames.npy", "index.jsonl"} if name != "synth" else set(contents(out))
        there, expected = contents(out), contents(elsewhere / "again")
        assert {name: there[name] for name in names} == {name: expected[name] for name in names}
    elif name.startswith("enroll"):
        with Gallery.open(Path(str(command[2]))) as gallery:
            assert sum(gallery.subjects().values()) == (8 if name == "enroll" else 12)
    assert remains(here) == []
