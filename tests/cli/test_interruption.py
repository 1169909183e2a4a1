"""Ctrl-C, kill -9, a full disk, two at once, nobody who listens: nothing is left half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pty
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import COMMAND, Done, apart, check_refusal, contents, in_process, succeed

from gaitedge.bundle import Bundle
from gaitedge.cli.interrupt import INTERRUPTED
from gaitedge.people.gallery import Gallery

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs POSIX signals, limits and /proc")

# What a shell would have: Python holds back what is printed to a pipe until the end.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
MANY = ["--subjects", 2, "--views", "054,072,090,108", "--conditions", "nm-01,nm-05,bg-01,cl-01"]


def start(*arguments: object, command: list[str] = COMMAND, **options: object) -> subprocess.Popen[str]:
    """Start a command as a shell does: in a process group of its own."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT, **options}
    whole = [*command, *map(str, arguments)]
    return subprocess.Popen(whole, text=True, start_new_session=True, **settings)  # type: ignore[call-overload, no-any-return]


def finish(process: subprocess.Popen[str]) -> Done:
    stdout, stderr = process.communicate(timeout=60)
    return Done(process.returncode, stdout or "", stderr or "")


def group_of(leader: int) -> list[int]:
    """The processes of a group that are still alive."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if entry.name.isdecimal():
                state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(group) == leader and state != "Z":
                    found.append(int(entry.name))
    return found


def until(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Wait for something that a process does, or for its end."""
    limit = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.003)


def press(process: subprocess.Popen[str], times: int = 1) -> Done:
    """Ctrl-C: the signal goes to the whole group."""
    began = time.monotonic()
    for _ in range(times):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.02)
    done = finish(process)
    assert time.monotonic() - began < 15
    ended(process)
    return done


def ended(process: subprocess.Popen[str]) -> None:
    """Wait for the end of all that a process started."""
    limit = time.monotonic() + 20
    while group_of(process.pid):
        assert time.monotonic() < limit
        time.sleep(0.02)


def check_interrupted(done: Done) -> bool:
    """Whether a command was interrupted, or had done its work already; never half of each."""
    assert (done.status, done.stderr) in {(1, f"{INTERRUPTED}\n"), (0, "")}, done
    return done.status == 1


def remains(folder: Path) -> list[str]:
    """Hidden files and SQLite's journals."""
    return [name for name in contents(folder) if Path(name).name.startswith(".") or name.endswith("-journal")]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many walks as images that two workers are busy for a second or so."""
    path = tmp_path_factory.mktemp("many") / "raw"
    succeed("synth", path, *MANY)
    return path


@pytest.fixture(scope="module")
def many_prepared(many: Path) -> Path:
    """The same as a store."""
    path = many.with_name("store")
    succeed("prepare", many, path, "--workers", 1)
    return path


# Ctrl-C


def children(process: subprocess.Popen[str]) -> int:
    """How many processes it has started: its workers, and one that tracks their semaphores."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return len(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    return 0


def frames(store: Path) -> int:
    path = store / "frames.npy"
    return path.stat().st_size // (64 * 44) if path.exists() else 0


@pytest.mark.parametrize(
    ("command", "times"), [("synth", 1), ("synth", 3), ("synth --store", 1), ("prepare", 1), ("prepare", 3)]
)
def test_ctrl_c_while_walks_are_written(
    command: str, times: int, weights: Path, many: Path, many_prepared: Path, tmp_path: Path
) -> None:
    """Again and again, in one folder: while the workers start, and while they work."""
    out = tmp_path / "out"
    arguments = ["prepare", many, out] if command == "prepare" else ["synth", out, *MANY]
    arguments += ["--store"] if command == "synth --store" else []

    def written() -> int:
        return len(list(out.glob("*/*/[0-9]*"))) if command == "synth" else frames(out) // 64

    def check(whole: bool) -> None:
        if command == "synth":
            there, expected = contents(out), contents(many)
            assert there == expected if whole else there.items() < expected.items()
        elif whole:
            for name in ("frames.npy", "index.jsonl"):
                assert (out / name).read_bytes() == (many_prepared / name).read_bytes()
        else:
            check_refusal(in_process("eval", weights, out), "unfinished", "once more")

    for workers, walks, pause in ((1, 0, 0), (1, 0, 0.03), (2, 0, 0.06), (2, 2, 0), (2, 6, 0)):
        before = written()
        process = start(*arguments, "--workers", 2)
        until(lambda: children(process) > workers and written() >= before + walks, process)  # noqa: B023
        time.sleep(pause)
        assert check_interrupted(press(process, times))
        assert remains(tmp_path) == []
        check(whole=False)
        assert written() >= before + walks  # nothing that was done is done again
    succeed(*arguments)
    check(whole=True)


def spread(count: int, *arguments: object) -> Iterator[float]:
    """Delays from the moment when Python has started to the end of a command."""
    began = time.monotonic()
    done = finish(start(*arguments))
    assert (done.status, done.stderr) == (0, "")
    yield from np.linspace(0.15, max(0.3, time.monotonic() - began), count)


def embeddings(gallery: Path) -> list[tuple[str, bytes]]:
    with Gallery.open(gallery) as opened:
        array, records = opened.embeddings()
    return sorted((record.source or "", array[index].tobytes()) for index, record in enumerate(records))


@pytest.mark.parametrize("earlier", [False, True])
def test_ctrl_c_while_a_bundle_is_exported(
    earlier: bool, weights: Path, other_bundle: Path, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.gait"
    if earlier:
        shutil.copy(other_bundle, out)
    before, interrupted = contents(tmp_path), 0
    for delay in spread(5, "export", weights, tmp_path.with_suffix(".gait")):
        process = start("export", weights, out)
        time.sleep(delay)
        interrupted += check_interrupted(press(process))
        if contents(tmp_path) != before:  # then it is done
            assert list(contents(tmp_path)) == ["new.gait"]
            assert Bundle.open(out).fingerprint == Bundle.open(bundle).fingerprint
            out.unlink()
            before = {}
    assert interrupted >= 1
    succeed("export", weights, out)
    assert list(contents(tmp_path)) == ["new.gait"]
    assert Bundle.open(out).manifest.members == Bundle.open(bundle).manifest.members


@pytest.mark.parametrize("anew", [False, True])
def test_ctrl_c_while_people_are_enrolled(anew: bool, bundle: Path, store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    out, earlier, whole = folder / "people.db", tmp_path / "earlier.db", tmp_path / "whole.db"
    succeed("enroll", bundle, earlier, f"{store}:*/nm-05")
    if not anew:
        shutil.copy(earlier, whole)
    interrupted = 0
    for delay in spread(5, "enroll", bundle, whole, f"{store}:*/nm-01", "--set-threshold"):
        out.unlink(missing_ok=True)
        if not anew:
            shutil.copy(earlier, out)
        before = contents(folder)
        process = start("enroll", bundle, out, f"{store}:*/nm-01", "--set-threshold")
        time.sleep(delay)
        interrupted += check_interrupted(press(process))
        if contents(folder) != before:  # then it is done
            assert list(contents(folder)) == ["people.db"]
            assert embeddings(out) == embeddings(whole)
    assert interrupted >= 1
    out.unlink(missing_ok=True)
    succeed("enroll", bundle, out, f"{store}:*/nm-01")


def test_ctrl_c_while_somebody_is_identified(bundle: Path, people: Path, store: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    command = ["identify", bundle, people, store, "--json"]
    for delay in spread(5, *command):
        process = start(*command)
        time.sleep(delay)
        done = press(process)
        assert check_interrupted(done) or json.loads(done.stdout)
        assert contents(tmp_path) == before
    assert len(succeed(*command).json) == 8


@pytest.mark.parametrize("delay", [0.1, 0.2, 0.3, 0.5])
def test_ctrl_c_while_the_modules_load(delay: float, bundle: Path) -> None:
    """An interrupt in an import would come out as an ImportError, or get lost with a traceback."""
    process = start("bench", bundle, "--seconds", 60)
    time.sleep(delay)
    assert check_interrupted(press(process))


# In a script, because what python -c runs is a string: there the command waits before it is interrupted.
IN_AN_IMPORT = """
import signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "gaitedge.machine.doctor":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""
IN_A_DESTRUCTOR = """
import signal, sys
from gaitedge.machine import doctor
class Thing:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        [None for _ in range(9)]
examine = doctor.examine
doctor.examine = lambda: (Thing() and None, examine())[1]
"""
IN_A_STRING = """
import signal, sys
from gaitedge.machine import doctor
examine = doctor.examine
doctor.examine = lambda: (exec("signal.raise_signal(signal.SIGINT); [None for _ in range(9)]"), examine())[1]
"""


@pytest.mark.parametrize("code", [IN_AN_IMPORT, IN_A_DESTRUCTOR, IN_A_STRING], ids=["import", "del", "exec"])
def test_ctrl_c_where_python_would_lose_it_or_make_something_else_of_it(code: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(f"{code}\nfrom gaitedge.cli import main\nmain()\n")
    done = finish(start("doctor", command=[sys.executable, str(tmp_path / "script.py")]))
    assert check_interrupted(done)


SMALL_DEMO = """
import functools
import gaitedge.demo as demo
from gaitedge.cli import main
demo.KNOWN, demo.STRANGERS, demo.OTHERS = 2, 1, 2
demo.GALLERY_VIEWS, demo.PROBE_VIEWS = ("054", "090"), ("072",)
demo.THRESHOLD = {"nm-01": ("054", "072"), "bg-01": ("090",)}
demo.bench = functools.partial(demo.bench, seconds=0.01, minimum_runs=1, warmup_s=0)
if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_ctrl_c_in_the_demonstration(tmp_path: Path) -> None:
    """The demonstration itself, of fewer people, interrupted in every one of its steps."""
    (tmp_path / "demonstration.py").write_text(SMALL_DEMO)
    command = [sys.executable, str(tmp_path / "demonstration.py"), "demo", "--json"]

    def shown(done: Done) -> object:
        assert (done.status, done.stderr) == (0, ""), done
        return [(walk["source"].rpartition(":")[2], walk["identification"]) for walk in done.json["walks"]]

    whole = shown(finish(start("--out", tmp_path / "whole", command=command)))
    out = tmp_path / "out"
    for name in ("raw/walkers.json", "raw/001", "store/store.json", "walkers.gait", "people.db"):
        (out / "walkers.gait").unlink(missing_ok=True)
        process = start("--out", out, command=command)
        until((out / name).exists, process)
        assert check_interrupted(press(process))
        assert remains(out) == []
    assert shown(finish(start("--out", out, command=command))) == whole
    assert shown(finish(start("--out", out, command=command))) == whole
    assert sorted(path.name for path in out.iterdir()) == ["people.db", "raw", "store", "walkers.gait"]


def test_ctrl_c_on_a_terminal(tmp_path: Path) -> None:
    """With a progress bar on it: the line is the last thing there."""
    ours, theirs = pty.openpty()
    process = start("synth", tmp_path / "raw", *MANY, stderr=theirs)
    os.close(theirs)
    until((tmp_path / "raw" / "001").exists, process)
    os.killpg(process.pid, signal.SIGINT)
    shown = read_terminal(ours)
    assert finish(process).status == 1
    assert shown.rstrip().endswith(INTERRUPTED)
    assert "drawing" in shown
    assert "Traceback" not in shown


def read_terminal(descriptor: int) -> str:
    """All that is written to a terminal until nobody has it open."""
    shown = b""
    with contextlib.suppress(OSError):  # so Linux says the end
        while data := os.read(descriptor, 4096):
            shown += data
    os.close(descriptor)
    return shown.decode()


def test_a_command_in_the_background_ignores_ctrl_c(bundle: Path) -> None:
    """A shell without job control starts it with the signal ignored; so it stays."""
    process = start(
        "bench",
        bundle,
        "--seconds",
        0.5,
        "--json",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    for _ in range(8):
        time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
    done = finish(process)
    assert (done.status, done.stderr) == (0, "")
    assert json.loads(done.stdout)


# kill -9


@pytest.mark.parametrize("command", ["synth", "prepare"])
def test_workers_end_with_a_killed_command_and_another_one_goes_on(
    command: str, many: Path, many_prepared: Path, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    arguments = ["synth", out, *MANY, "--store"] if command == "synth" else ["prepare", many, out]
    process = start(*arguments, "--workers", 2)
    until(lambda: frames(out) > 100, process)
    process.kill()
    process.wait()
    ended(process)
    process.communicate()
    succeed(*arguments)
    for name in ("frames.npy", "index.jsonl"):
        assert (out / name).read_bytes() == (many_prepared / name).read_bytes()


# A full disk


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


# Two at once


@contextlib.contextmanager
def locked(gallery: Path) -> Iterator[None]:
    """Another process's change of a gallery that takes its time."""
    connection = sqlite3.connect(gallery, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@pytest.mark.parametrize("anew", [False, True])
def test_processes_that_enrol_at_once(
    anew: bool, bundle: Path, people: Path, raw: Path, tmp_path: Path
) -> None:
    gallery = tmp_path / "new.db" if anew else people
    names = ["Ada", "Bob", "Eve"]
    with contextlib.nullcontext() if anew else locked(gallery):
        processes = [
            start("enroll", bundle, gallery, raw / "001" / "nm-01" / "090", "--id", name) for name in names
        ]
        if not anew:
            time.sleep(1.5)
            assert [process.poll() for process in processes] == [None] * 3  # they wait for their turn
    for process, name in zip(processes, names, strict=True):
        done = finish(process)
        assert (done.status, done.stderr) == (0, "")
        assert f"of {name} into" in done.stdout
    with Gallery.open(gallery) as opened:
        assert dict.fromkeys(names, 1).items() <= opened.subjects().items()
    assert remains(tmp_path) == []


def test_another_process_makes_the_gallery_first(
    bundle: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, path = os.link, tmp_path / "new.db"

    def late(source: Path, target: Path) -> None:
        monkeypatch.undo()
        succeed("enroll", bundle, path, f"{store}:001/nm-01")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    succeed("enroll", bundle, path, f"{store}:002/nm-01")
    with Gallery.open(path) as opened:
        assert opened.subjects() == {"001": 2, "002": 2}
    assert list(contents(tmp_path)) == ["new.db"]


def test_a_disk_without_hard_links(
    bundle: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(source), None, str(target))

    monkeypatch.setattr(os, "link", refuse)
    succeed("enroll", bundle, tmp_path / "new.db", f"{store}:002/nm-01")
    succeed("enroll", bundle, tmp_path / "new.db", f"{store}:001/nm-01")
    assert list(contents(tmp_path)) == ["new.db"]
    assert succeed("gallery", "list", tmp_path / "new.db", "--json").json == {"001": 2, "002": 2}


def test_who_waits_for_a_gallery_can_be_interrupted(bundle: Path, people: Path, raw: Path) -> None:
    with locked(people):
        process = start("enroll", bundle, people, raw / "001" / "nm-01" / "090", "--id", "Ada")
        time.sleep(2)
        assert process.poll() is None
        began = time.monotonic()
        assert check_interrupted(press(process))
        assert time.monotonic() - began < 2
    with Gallery.open(people) as opened:
        assert "Ada" not in opened.subjects()


def test_identifying_does_not_wait_for_who_enrols(bundle: Path, people: Path, store: Path) -> None:
    with locked(people):
        done = apart("identify", bundle, people, f"{store}:001/nm-01/090", env=ENVIRONMENT)
    assert (done.status, done.stderr) == (0, "")
    assert "001" in done.stdout


# Standard output


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor"],
        ["doctor", "--json"],
        ["inspect", "BUNDLE"],
        ["inspect", "BUNDLE", "--json"],
        ["gallery", "stats", "PEOPLE", "--json"],
        ["--help"],
        ["gallery", "--help"],
    ],
    ids=" ".join,
)
def test_output_that_nobody_takes(arguments: list[str], bundle: Path, people: Path) -> None:
    command = [{"BUNDLE": str(bundle), "PEOPLE": str(people)}.get(part, part) for part in arguments]
    ours, theirs = os.pipe()
    os.close(ours)  # as `| head -0` does
    left = finish(start(*command, stdout=theirs))
    os.close(theirs)
    assert (left.status, left.stderr) == (1, "")
    with Path("/dev/full").open("w") as full:
        check_refusal(finish(start(*command, stdout=full)), "No space left on device")
    closed = finish(start(*command, preexec_fn=lambda: os.close(1)))
    assert (closed.status, closed.stderr) == (0, "")


def test_an_error_that_nobody_reads(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    for options in ({"stderr": theirs}, {"preexec_fn": lambda: os.close(2)}):
        done = finish(start("inspect", tmp_path / "none.gait", **options))
        assert (done.status, done.stdout) == (1, "")
    os.close(theirs)


def test_progress_goes_to_the_terminal_and_json_to_stdout(weights: Path, many_prepared: Path) -> None:
    ours, theirs = pty.openpty()
    process = start("eval", weights, many_prepared, "--json", stderr=theirs)
    os.close(theirs)
    shown = read_terminal(ours)
    done = finish(process)
    assert done.status == 0
    assert set(done.json) == {"protocol", "views", "subjects", "gallery", "probes", "probe_sets"}
    assert "embedding" in shown


def test_a_name_that_no_encoding_has(tmp_path: Path) -> None:
    """A file name is bytes; these are not text."""
    path = os.path.join(os.fsencode(tmp_path), b"w\xff")  # noqa: PTH118
    few = ["--subjects", "1", "--views", "090", "--conditions", "nm-01"]
    command = [*COMMAND, "synth", path, *few]
    for more in ([], ["--json"]):
        done = subprocess.run([*command, *more], capture_output=True, check=False, env=ENVIRONMENT)
        assert (done.returncode, done.stderr) == (0, b"")
