"""Rows are measured in turns, each as often as asked, and never twice what is there already."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from bundles import SMALL, bundle_of
from profiling_cases import LOADED, SETTINGS, FakeRunner, repeat_of, wanted

from gaitedge.errors import BundleError, InputError, MachineError
from gaitedge.profiling.document import Best, Row
from gaitedge.profiling.repeat import Repeat, Wanted
from gaitedge.profiling.row import failed_row, make_row
from gaitedge.profiling.sweep import axes, best, sweep
from gaitedge.profiling.unfinished import UnfinishedSweep
from gaitedge.profiling.variants import Variants


@pytest.fixture
def variants(tmp_path: Path) -> Variants:
    return Variants(bundle_of(SMALL).save(tmp_path / "walkers.gait"))


ROWS = [wanted(1), wanted(2), wanted(8)]


def test_the_last_axis_varies_first() -> None:
    rows = axes("auto", (1, 2), (30, 60), (None, "int8"), ("exported", "fused"), (None, 1), (1, 2))
    assert len(rows) == len(set(rows)) == 64
    assert rows[0] == Wanted("auto", None, "exported", 1, 30, None, 1)
    assert rows[1] == Wanted("auto", None, "exported", 1, 30, None, 2)
    assert rows[-1] == Wanted("auto", "int8", "fused", 2, 60, 1, 2)
    keys = [
        (row.batch, row.frames, row.precision or "", row.plan, row.threads or 9, row.streams) for row in rows
    ]
    assert [key[:2] for key in keys] == sorted(key[:2] for key in keys)
    assert len(axes("auto", (1, 1), (30,), (None,), ("exported",), (None,), (2, 2))) == 1


def test_repeats_are_interleaved(variants: Variants) -> None:
    runner, seen = FakeRunner(), []
    rows = sweep(variants, ROWS, SETTINGS, 2, None, lambda *call: seen.append(call), runner)
    assert runner.asked == [(1, 0), (2, 0), (8, 0), (1, 1), (2, 1), (8, 1)]
    assert [(done, total) for done, total, _ in seen] == [(number, 6) for number in range(7)]
    assert seen[1][2] == "openvino 2×30"
    assert [len(row.samples_ms) for row in rows] == [2, 2, 2]
    assert [row.sequences_per_second for row in rows] == [pytest.approx(100.0)] * 3


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MachineError("its process was killed (signal 9)"), "its process was killed (signal 9)"),
        (BundleError("no\nint8 graph"), "no int8 graph"),
        (MemoryError("7 TiB"), "this machine has not enough memory: 7 TiB; give it less at once"),
    ],
)
@pytest.mark.parametrize("batch", [1, 8])
def test_a_row_that_fails_costs_itself_alone(
    error: Exception, said: str, batch: int, variants: Variants
) -> None:
    runner = FakeRunner({batch: error})
    rows = sweep(variants, ROWS, SETTINGS, 3, None, None, runner)
    assert [(row.failed, row.figures is None) for row in rows] == [
        (said if row.batch == batch else None, row.batch == batch) for row in ROWS
    ]
    assert runner.asked.count((batch, 0)) == 1
    assert len(runner.asked) == 7  # it is not tried again
    assert [row.configuration.precision for row in rows] == ["fp32"] * 3  # of the others where it did not say


def test_repeats_without_end_begin_at_once(variants: Variants) -> None:
    with pytest.raises(ZeroDivisionError):
        sweep(variants, ROWS, SETTINGS, 10**12, None, None, FakeRunner({2: ZeroDivisionError()}))


def test_a_bundle_that_is_replaced_meanwhile_ends_the_sweep(variants: Variants, tmp_path: Path) -> None:
    class Replacing(FakeRunner):
        def __call__(self, bundle: Path, *arguments: object) -> Repeat:
            if len(self.asked) == 2:
                bundle_of(SMALL, seed=1).save(bundle)
            return super().__call__(bundle, *arguments)  # type: ignore[arg-type]

    with UnfinishedSweep(tmp_path / "unfinished", "key") as saved:
        with pytest.raises(InputError, match=r"walkers\.gait was replaced or taken away"):
            sweep(variants, ROWS, SETTINGS, 2, saved, None, Replacing())
        assert [entry["row"] for entry in saved.entries] == [0, 1]  # not the one that may be of the other


def test_a_bug_is_no_row(variants: Variants) -> None:
    with pytest.raises(ZeroDivisionError):
        sweep(variants, ROWS, SETTINGS, 1, None, None, FakeRunner({2: ZeroDivisionError()}))


@pytest.mark.parametrize("after", range(6))
def test_an_interrupted_sweep_goes_on(after: int, variants: Variants, tmp_path: Path) -> None:
    class Interrupted(FakeRunner):
        def __call__(self, *arguments: object) -> Repeat:
            if len(self.asked) == after:
                raise KeyboardInterrupt
            return super().__call__(*arguments)  # type: ignore[arg-type]

    failing: dict[int, BaseException] = {2: MachineError("no memory")}
    path = tmp_path / "unfinished"
    with UnfinishedSweep(path, "key") as saved, pytest.raises(KeyboardInterrupt):
        sweep(variants, ROWS, SETTINGS, 3, saved, None, Interrupted(failing))
    runner, whole = FakeRunner(failing), FakeRunner(failing)
    with UnfinishedSweep(path, "key") as saved:
        found = sweep(variants, ROWS, SETTINGS, 3, saved, None, runner)
    assert found == sweep(variants, ROWS, SETTINGS, 3, None, None, whole)
    assert runner.asked == whole.asked[after:]
    once_more = FakeRunner()
    with UnfinishedSweep(path, "key") as saved:
        assert sweep(variants, ROWS, SETTINGS, 3, saved, None, once_more) == found
    assert once_more.asked == []


def test_a_repeat_survives_json() -> None:
    found = repeat_of([1.0, 2.5])
    assert Repeat.from_json(json.loads(json.dumps(dataclasses.asdict(found)))) == found
    bare = dataclasses.replace(found, energy=None, control_ms=None)
    assert Repeat.from_json(json.loads(json.dumps(dataclasses.asdict(bare)))) == bare


def row(times: list[float], rate: float) -> Row:
    return make_row(wanted(), [repeat_of(times, rate)])


def test_the_best_of_a_sweep() -> None:
    rows = [
        row([10.0], 100.0),
        failed_row(wanted(), LOADED, "no memory"),
        row([2.0], 300.0),
        row([1.0], 200.0),
        row([20.0], 900.0),
    ]
    assert best(rows) == Best(throughput=4, latency=3)
    assert best(rows, 10.0) == Best(4, 3, 10.0, within_bound=2)
    assert best(rows, 1.5) == Best(4, 3, 1.5, within_bound=3)
    assert best(rows, 0.5) == Best(4, 3, 0.5, within_bound=None)
    assert best([rows[1]], 5.0) == Best(None, None, 5.0, None)
