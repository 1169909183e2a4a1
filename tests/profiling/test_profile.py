"""A profile of real engines with tiny networks, in processes of their own."""

from __future__ import annotations

import math
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from bundles import SMALL, bundle_of
from processes import ended, finish, linux, start, until
from profiling_cases import FakeRunner
from stores import fill

from gaitedge.errors import BundleError, InputError
from gaitedge.machine.environment import environment
from gaitedge.profiling.document import Document
from gaitedge.profiling.profile import profile
from gaitedge.profiling.schema import read_document, write_document
from gaitedge.profiling.unfinished import unfinished

QUICK = {"seconds": 0.02, "warmup_s": 0.0, "threads": (1,), "energy": False}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return bundle_of(SMALL).save(tmp_path / "walkers.gait").path


def fake(bundle: Path, runner: FakeRunner | None = None, **options: object) -> Document:
    return profile(bundle, runner=runner or FakeRunner(), **options)  # type: ignore[arg-type]


def test_real_engines_and_a_batch_that_no_memory_holds(bundle: Path, tmp_path: Path) -> None:
    fill(tmp_path / "store", 3)
    found = profile(
        bundle,
        engine="openvino",
        batches=(2, 10**8),
        frames=(5,),
        plans=("exported", "naive", "plugin"),
        repeats=2,
        inputs=str(tmp_path / "store"),
        command="gaitedge bench",
        **QUICK,  # type: ignore[arg-type]
    )
    rows = {(row.configuration.batch, row.configuration.plan): row for row in found.rows}
    assert list(rows) == [(batch, plan) for batch in (2, 10**8) for plan in ("exported", "naive", "plugin")]
    for plan in ("exported", "naive"):
        row = rows[2, plan]
        assert row.failed is None
        assert row.figures is not None
        assert row.figures.end_to_end.runs == sum(map(len, row.samples_ms)) >= 6
        assert len(row.samples_ms) == len(row.control_ms) == 2
        assert row.configuration.engine == "openvino"
        assert row.configuration.precision == "fp32"
        assert row.configuration.threads == 1
        assert row.description.startswith("OpenVINO ")
        assert "not enough memory" in (rows[10**8, plan].failed or "")
        assert rows[10**8, plan].configuration.precision == "fp32"
        if sys.platform == "linux":
            assert row.memory is not None
            assert (row.memory.process_peak or 0) > (row.memory.process_before or 0) > 1 << 20
            assert row.memory.device_peak is None
    assert "plugins are TensorRT's" in (rows[2, "plugin"].failed or "")
    assert found.best is not None
    assert found.best.throughput in (0, 1)
    assert found.settings["inputs"].endswith(
        "3 walks of 3 to 5 frames, cut at random; shorter ones repeated from their start"
    )
    assert (found.command, found.bundle) == ("gaitedge bench", str(bundle))
    write_document(found, tmp_path / "profile.json")
    assert read_document(tmp_path / "profile.json") == found


def test_another_runtime_with_two_streams(bundle: Path) -> None:
    found = profile(bundle, engine="onnxruntime", streams=(2,), frames=(3,), repeats=1, **QUICK)  # type: ignore[arg-type]
    (row,) = found.rows
    assert row.failed is None
    assert row.figures is not None
    assert row.configuration.streams == 2
    assert row.figures.end_to_end.runs >= 6  # each stream's three


def test_settings_and_the_best_within_a_bound(bundle: Path) -> None:
    found = fake(bundle, batches=(1, 4), seconds=4.0, repeats=2, bound_ms=20.0, seed=3)
    assert found.best is not None
    assert (found.best.bound_ms, found.best.latency, found.best.within_bound) == (20.0, 0, 0)
    assert found.settings["seconds"] == 4.0
    assert found.settings["repeats"] == 2
    assert found.settings["seed"] == 3
    assert "synthetic" in found.settings["inputs"]
    assert found.environment["packages"]["numpy"] == np.__version__
    assert found.created.endswith("+00:00")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"seconds": 0.0}, "seconds to measure a row for must be above 0, not 0.0"),
        ({"seconds": -1.0}, "above 0, not -1.0"),
        ({"seconds": math.nan}, "above 0, not nan"),
        ({"seconds": math.inf}, "above 0, not inf"),
        ({"warmup_s": -0.1}, "warm up must be 0 or more, not -0.1"),
        ({"repeats": 0}, "1 repeat or more, not 0"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"bound_ms": 0.0}, "bound of the latency must be above 0 ms"),
        ({"engine": "abacus"}, "unknown engine 'abacus'; there are: auto, tensorrt"),
        ({"precisions": ("fp32", "fp64")}, "unknown precision 'fp64'"),
        ({"precisions": ()}, "precisions must be one or more"),
        ({"plans": ("fast",)}, "unknown plan 'fast'"),
        ({"threads": (0,)}, "1 thread or more, not 0"),
        ({"batches": (1, 0)}, r"batches must be one or more numbers from 1 up, not \[1, 0\]"),
        ({"frames": ()}, "frames must be one or more"),
        ({"streams": (-1,)}, "streams must be"),
        ({"inputs": "/nowhere"}, "nothing at /nowhere"),
        ({"out": Path("/nowhere/profile.json")}, "there is no folder /nowhere"),
    ],
)
def test_bad_values_are_refused_before_any_work(bad: dict[str, object], said: str, bundle: Path) -> None:
    runner = FakeRunner()
    with pytest.raises(InputError, match=said):
        fake(bundle, runner, **bad)
    assert runner.asked == []


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle at"):
        fake(tmp_path / "none.gait")


def test_what_was_measured_is_not_measured_again(bundle: Path, tmp_path: Path) -> None:
    out, first = tmp_path / "profile.json", FakeRunner()
    found = fake(bundle, first, batches=(1, 2), out=out)
    assert len(first.asked) == 10
    assert unfinished(out).exists()  # until the caller has written the profile
    again = FakeRunner()
    resumed = fake(bundle, again, batches=(1, 2), out=out)
    assert resumed.rows == found.rows
    assert resumed.warnings == ["10 of 10 repeats are of an earlier run that was interrupted"]
    assert again.asked == []
    for others in ({"batches": (1, 4)}, {"batches": (1, 2), "seconds": 1.0}, {"batches": (1, 2), "seed": 5}):
        runner = FakeRunner()
        (warning,) = fake(bundle, runner, out=out, **others).warnings
        assert "was of other settings" in warning
        assert len(runner.asked) == 10


@pytest.mark.parametrize("what", ["cores", "governor", "gpus", "nvidia_driver", "jetson", "packages"])
def test_another_machine_is_another_sweep(
    what: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "profile.json"
    fake(bundle, out=out)
    machine = {**environment(), what: "another"}
    monkeypatch.setattr("gaitedge.profiling.profile.environment", lambda: machine)
    runner = FakeRunner()
    (warning,) = fake(bundle, runner, out=out).warnings
    assert "another machine" in warning
    assert len(runner.asked) == 5


def test_another_bundle_is_another_sweep(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    fake(bundle, out=out)
    other, runner = bundle_of(SMALL, seed=1).save(tmp_path / "other.gait").path, FakeRunner()
    assert fake(other, runner, out=out).warnings
    assert len(runner.asked) == 5


SCRIPT = """
import sys
from pathlib import Path
from gaitedge.profiling.profile import profile
if __name__ == "__main__":
    try:
        profile(Path(sys.argv[1]), engine="openvino", batches=(1, 2), frames=(3,), threads=(1,), seconds=0.02,
                warmup_s=0.0, repeats=2, energy=False, out=Path(sys.argv[2]))
    except KeyboardInterrupt:
        sys.exit("interrupted")
"""


@linux
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_sweep_goes_on(how: int, bundle: Path, tmp_path: Path) -> None:
    out, script = tmp_path / "profile.json", tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = start(bundle, out, command=[sys.executable, str(script)])
    kept = unfinished(out)
    until(lambda: kept.exists() and kept.read_bytes().count(b"\n") >= 2, process)
    os.killpg(process.pid, how)
    ended(process)
    assert finish(process).stderr == ("interrupted\n" if how == signal.SIGINT else "")
    before = kept.read_bytes().rpartition(b"\n")[0]
    assert 2 <= len(before.splitlines()) < 5
    done = finish(start(bundle, out, command=[sys.executable, str(script)]))
    assert (done.status, done.stderr) == (0, "")
    assert kept.read_bytes().startswith(before)  # nothing of that was measured again
    assert len(kept.read_bytes().splitlines()) == 5
