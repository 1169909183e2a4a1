"""OpenVINO: BF16 where the processor has it, nobody told, and a next start that compiles nothing."""

from __future__ import annotations

import gc
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from bundles import PAPER, SMALL, bundle_of
from networks import random_silhouettes
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.engines import blobs, load
from gaitedge.errors import MachineError
from gaitedge.machine.cpu import cpu_features

openvino = pytest.importorskip("openvino")

HAS_BF16 = not cpu_features().isdisjoint({"avx512_bf16", "amx_bf16"})
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this processor has no BF16 instructions")
on_posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")

WALK = random_silhouettes(1, 5, 0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the blobs, still to be made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gaitedge" / "openvino"


def start(bundle: Bundle, threads: int = 1, precision: str = "fp32") -> NDArray[np.float32]:
    """Load an engine, embed one walk and give the engine up."""
    embeddings = load(bundle, "openvino", threads, precision).embed(WALK)
    gc.collect()
    return embeddings


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def planted(cache: Path) -> Path:
    """The blob of one network, sealed under the key of another: whoever takes it gives itself away."""
    start(bundle_of(SMALL, seed=1))
    foreign = blobs.recall(only(cache).stem)
    assert foreign is not None
    only(cache).unlink()
    start(bundle_of(SMALL))
    path = only(cache)
    blobs.keep(path.stem, foreign)
    return path


@needs_bf16
def test_bf16_is_near_and_is_not_fp32() -> None:
    silhouettes = random_silhouettes(2, 17, 0)
    exact = load(bundle_of(PAPER), "openvino").embed(silhouettes)
    engine = load(bundle_of(PAPER), "openvino", precision="bf16")
    assert engine.precision == "bf16"
    assert ", bf16, " in engine.description
    error = np.abs(engine.embed(silhouettes) - exact).max() / np.abs(exact).max()
    assert 1e-4 < error < 3e-2
    assert load(bundle_of(PAPER, "bf16"), "openvino").precision == "bf16"
    assert load(bundle_of(PAPER, "bf16"), "openvino", precision="fp32").precision == "fp32"


def test_without_bf16_instructions_it_is_refused_or_replaced_openly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gaitedge.engines.openvino.cpu_features", lambda: frozenset({"avx2"}))
    with pytest.raises(
        MachineError, match="this processor has no BF16 instructions: it cannot run in bf16; use fp32"
    ):
        load(bundle_of(SMALL), "openvino", precision="bf16")
    engine = load(bundle_of(SMALL, "bf16"), "openvino")
    assert engine.precision == "fp32"
    assert "fp32 (not bf16 as exported: this processor has no BF16 instructions)" in engine.description


def test_the_next_start_takes_what_was_compiled_and_gives_the_same_numbers(cache: Path) -> None:
    engine = load(bundle_of(SMALL), "openvino", 1)
    first = engine.embed(WALK)
    assert not cache.exists()  # no start waits for the blob
    del engine
    gc.collect()
    path = only(cache)
    before = path.stat()
    np.testing.assert_array_equal(start(bundle_of(SMALL)), first)
    assert only(cache) == path
    assert path.stat().st_ino == before.st_ino  # taken, not written again
    assert path.stat().st_mtime_ns > before.st_mtime_ns


def test_the_blob_is_what_runs(cache: Path) -> None:
    other = start(bundle_of(SMALL, seed=1))
    planted(cache)
    np.testing.assert_array_equal(start(bundle_of(SMALL)), other)


@needs_bf16
def test_a_bf16_blob_gives_the_numbers_of_bf16(cache: Path) -> None:
    bundle = bundle_of(SMALL, "bf16")
    first = start(bundle, precision="bf16")
    np.testing.assert_array_equal(start(bundle, precision="bf16"), first)
    assert only(cache)
    assert not np.array_equal(start(bundle), first)


def test_a_process_that_ends_leaves_its_blob(cache: Path, tmp_path: Path) -> None:
    bundle_of(SMALL).save(tmp_path / "walkers.gait")
    code = (
        "import sys; from pathlib import Path; from gaitedge.bundle import Bundle; "
        "from gaitedge.engines import load; engine = load(Bundle.open(Path(sys.argv[1])), 'openvino', 1)"
    )
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(tmp_path / "walkers.gait")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert only(cache).suffix == ".blob"


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "seal alone", "no blob", "lengthened"])
def test_a_damaged_blob_is_replaced_and_never_believed(cache: Path, damage: str) -> None:
    expected = start(bundle_of(SMALL))
    path = only(cache)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(flipped) // 2] ^= 0x40  # a weight: OpenVINO itself does not notice
    broken = {
        "flipped": bytes(flipped),
        "cut": whole[:-9],
        "empty": b"",
        "seal alone": whole[:32],
        "lengthened": whole + b"\0",
    }
    if damage == "no blob":  # as OpenVINO finds it, behind a seal that is right
        blobs.keep(path.stem, b"no blob")
    else:
        path.write_bytes(broken[damage])
    np.testing.assert_array_equal(start(bundle_of(SMALL)), expected)
    assert blobs.recall(only(cache).stem) not in (None, b"no blob")
    np.testing.assert_array_equal(start(bundle_of(SMALL)), expected)


def test_another_model_version_processor_or_setting_has_a_blob_of_its_own(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = start(bundle_of(SMALL))
    start(bundle_of(SMALL, seed=1))
    np.testing.assert_allclose(start(bundle_of(SMALL), threads=2), expected, rtol=0, atol=1e-4)
    with monkeypatch.context() as other:
        other.setattr(openvino, "__version__", "2031.0.0-1")
        np.testing.assert_array_equal(start(bundle_of(SMALL)), expected)
    with monkeypatch.context() as other:
        other.setattr("gaitedge.engines.openvino.cpu_features", lambda: frozenset({"avx2"}))
        np.testing.assert_array_equal(start(bundle_of(SMALL)), expected)
    assert len(list(cache.iterdir())) == 5


def test_only_what_was_exported_for_the_cpu_is_kept(cache: Path) -> None:
    start(bundle_of(SMALL, target="portable", engine="any"))
    assert not cache.exists()


@pytest.mark.parametrize("where", ["a file", "no home", "a full name of no folder"])
def test_no_place_for_blobs_is_no_error(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "a file":
        (tmp_path / "gaitedge").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    elif where == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", homeless)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    np.testing.assert_array_equal(start(bundle_of(SMALL)), start(bundle_of(SMALL)))


def homeless() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_the_folder_is_the_one_of_the_xdg_specification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for relative in ("", "here"):  # which the specification says to ignore
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        blobs.keep(f"ab{relative.encode().hex()}", b"blob")
    assert len(list((tmp_path / ".cache" / "gaitedge" / "openvino").iterdir())) == 2


@on_posix
@pytest.mark.parametrize("others", ["write the folder", "write the blob", "own both", "set a link"])
def test_what_others_could_have_written_is_not_run(
    cache: Path, others: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = start(bundle_of(SMALL, target="portable", engine="any"))  # of which nothing is kept
    path = planted(cache)
    assert not np.array_equal(start(bundle_of(SMALL)), expected)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    if others == "write the folder":
        cache.chmod(0o777)
    elif others == "write the blob":
        path.chmod(0o666)
    elif others == "own both":
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    else:
        cache.rename(cache.with_name("elsewhere"))
        cache.symlink_to(cache.with_name("elsewhere"))
    np.testing.assert_array_equal(start(bundle_of(SMALL)), expected)


def test_few_blobs_are_kept_those_used_last(cache: Path) -> None:
    keys = [f"{number:02x}" for number in range(blobs.KEPT + 3)]
    for age, key in enumerate(keys[: blobs.KEPT]):
        blobs.keep(key, key.encode())
        os.utime(cache / f"{key}.blob", (1000 + age, 1000 + age))
    (cache / ".dead.part").write_bytes(b"of a killed process")
    os.utime(cache / ".dead.part", (500, 500))
    assert blobs.recall(keys[0]) == keys[0].encode()  # used now
    for key in keys[blobs.KEPT :]:
        blobs.keep(key, key.encode())
    left = {path.stem for path in cache.iterdir()}
    assert left == {keys[0], *keys[4:]}


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_blob_is_whole_whoever_writes_and_is_killed(cache: Path) -> None:
    code = """
    import itertools, sys
    from gaitedge.engines import blobs
    for letter in itertools.cycle(b"abc"):
        blobs.keep("ab", bytes([letter]) * 3_000_000)
        print(flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        end = time.monotonic() + 1
        while time.monotonic() < end:
            found = blobs.recall("ab")
            assert found is not None
            assert len(found) == 3_000_000
            assert len(set(found)) == 1
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
    assert blobs.recall("ab") is not None
    blobs.keep("ab", b"after that")
    assert blobs.recall("ab") == b"after that"


@pytest.mark.parametrize(
    "command", [["bench", "walkers.gait", "--seconds", "0.01", "--repeats", "2"], ["doctor"]]
)
def test_it_reports_to_nobody(command: list[str], tmp_path: Path) -> None:
    """Left alone it sends every import to Google Analytics, with a number for the user from ~/intel."""
    bundle_of(SMALL).save(tmp_path / "walkers.gait")
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import atexit, sys; from gaitedge.cli import main; "
        "atexit.register(lambda: print('openvino_telemetry' in sys.modules, file=sys.stderr)); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},  # no CI, where it would keep quiet
    )
    assert (done.returncode, done.stderr) == (0, "False\n")
    assert not (home / "intel").exists()


WITHOUT_MEMORY = """
import resource
import sys
from pathlib import Path
import numpy as np
from gaitedge.bundle import Bundle
from gaitedge.engines import load
from gaitedge.errors import MachineError

engine = load(Bundle.open(Path(sys.argv[1])), "openvino", threads=int(sys.argv[2]))
rng = np.random.default_rng(0)
many = rng.integers(0, 256, (400, 20, 64, 44), np.uint8)
engine.embed(many[:1])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20),) * 2)
try:
    engine.embed(many)
except (MachineError, MemoryError) as error:
    print(f"refused: {error}")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' limits")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_call_without_memory_is_no_embedding_of_the_walk_before(threads: int, tmp_path: Path) -> None:
    bundle_of(SMALL).save(tmp_path / "small.gait")
    code = [sys.executable, "-c", WITHOUT_MEMORY, str(tmp_path / "small.gait"), str(threads)]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused: ")
    assert done.stdout.count("\n") == 1
