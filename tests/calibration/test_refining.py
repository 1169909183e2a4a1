"""What may follow on a calibration: corrected biases, and layers that stay in floating point."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from small_walks import SMALL, WEIGHTS

from gaitedge.calibration import refining
from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.collecting import calibrate, unfinished
from gaitedge.calibration.refining import refine
from gaitedge.calibration.sensitivity import Sensitivity, find_sensitivity
from gaitedge.errors import InputError


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "int8.json"
    path.write_text("precious")
    return path


@pytest.fixture
def before(store: Path, weights: Path, out: Path) -> Calibration:
    """A calibration that was not written yet."""
    made = calibrate(weights, store, out, threads=1, save=False)
    assert out.read_text() == "precious"
    return made


def test_biases_are_corrected_and_written(store: Path, weights: Path, out: Path, before: Calibration) -> None:
    steps: list[tuple[str, int, int]] = []
    made, judged = refine(
        weights, store, before, out, corrected=True, progress=lambda *step: steps.append(step)
    )
    assert judged is None
    assert Calibration.load(out) == made
    assert made == dataclasses.replace(before, biases=made.biases)
    assert [*made.biases] == ["fconv1", "fconv2", "fconv3", "fconv4"]
    assert any(any(values) for values in made.biases.values())
    made.check(SMALL, WEIGHTS)
    assert steps[-1][0] == "correcting biases"
    assert steps[-1][1] == steps[-1][2] > 0


def test_layers_are_kept_for_a_budget(
    store: Path, weights: Path, out: Path, before: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the search finds is what the file says; it is itself tested in test_sensitivity.py."""

    def search(*arguments: object, **options: object) -> Sensitivity:
        found = find_sensitivity(*arguments, **options)  # type: ignore[arg-type]
        return dataclasses.replace(found, kept=("fconv2",))

    monkeypatch.setattr(refining, "find_sensitivity", search)
    made, judged = refine(weights, store, before, out, max_drop=100)
    assert judged is not None
    assert judged.max_drop == 100
    assert made.floating == (*before.floating, "fconv2")
    assert Calibration.load(out) == made
    assert "fconv2" not in dict(made.scales())


def test_what_layers_cost_is_told_without_a_budget(
    store: Path, weights: Path, out: Path, before: Calibration
) -> None:
    made, judged = refine(weights, store, before, out, judged_on="001-002", threads=1)
    assert made == before
    assert judged is not None
    assert (judged.sequences, judged.max_drop, judged.kept, judged.frontier) == (24, None, (), ())
    assert [one.layer for one in judged.layers] == ["fconv1", "fconv2", "fconv3", "fconv4"]
    assert Calibration.load(out) == before


def test_what_cannot_be_met_writes_nothing(
    store: Path, weights: Path, out: Path, before: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="must be 0 percentage points or more, not -1"):
        refine(weights, store, before, out, corrected=True, max_drop=-1)

    def hopeless(*arguments: object, **options: object) -> Sensitivity:
        raise InputError("int8 does not keep rank-1 within 0 points")

    monkeypatch.setattr(refining, "find_sensitivity", hopeless)
    with pytest.raises(InputError, match="does not keep rank-1"):
        refine(weights, store, before, out, corrected=True, max_drop=0)
    assert out.read_text() == "precious"
    assert unfinished(out).exists()  # once more need not show the walks again


def test_nothing_to_do_is_written_as_it_is(
    store: Path, weights: Path, out: Path, before: Calibration
) -> None:
    assert refine(weights, store, before, out) == (before, None)
    assert Calibration.load(out) == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]
