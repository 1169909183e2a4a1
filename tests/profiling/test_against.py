"""The same work through something else, in turns: real processes, a tiny network."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import SMALL, UNEVEN, bundle_of, letter

from gaitedge.engines import load
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.errors import BundleError, InputError, MachineError, MissingPackage
from gaitedge.profiling import against
from gaitedge.profiling.against import measure_against
from gaitedge.profiling.document import Against, Configuration, Row

ENGINE = "openvino" if importlib.util.find_spec("openvino") else "onnxruntime"
pytest.importorskip(ENGINE)

ROW = Row(Configuration(ENGINE, "fp32", "exported", 2, 5, 1, 1))


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of(SMALL).save(tmp_path_factory.mktemp("box") / "box.gait").path


def measured(box: Path, **options: Any) -> Against:
    short: dict[str, Any] = {"seconds": 0.01, "warmup_s": 0.0, "repeats": 1}
    return measure_against(box, ROW, 3, **{**short, **options})


def test_the_letter_in_pytorch_does_the_same_work(box: Path) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    inputs = [draw_silhouettes(2, 5, rng) for _ in range(2)]
    shares: list[float] = []
    found = measured(box, inputs=inputs, progress=shares.append)
    assert found.row == 3
    assert found.name == f"PyTorch {torch.__version__} eager, the paper's letter"
    assert found.verdict in ("faster", "slower", "not distinguishable")
    assert found.speedup.low <= found.speedup.ratio <= found.speedup.high
    (samples,) = found.samples_ms
    assert len(samples) % 6 == 0  # A B B A, three calls a turn
    assert found.figures.end_to_end.runs == len(samples)
    ours = load(bundle_of(SMALL), ENGINE, 1).embed
    references = [letter(SMALL, one) for one in inputs]
    largest = max(float(np.abs(ours(one) - ref).max()) for one, ref in zip(inputs, references, strict=True))
    relative = largest / max(float(np.abs(ref).max()) for ref in references)
    assert found.largest_difference == pytest.approx(relative, abs=1e-6)
    assert found.largest_difference < 1e-4
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (pytest.approx(0, abs=0.01), 1.0)


def test_another_bundle_runs_by_its_own_engine(box: Path, tmp_path: Path) -> None:
    other = bundle_of(SMALL, seed=1).save(tmp_path / "other.gait").path
    found = measured(box, name=str(other))
    assert found.name.startswith("other.gait, of other weights: ")
    assert found.largest_difference > 0.01
    same = measured(box, name=str(box))
    assert same.name.startswith("box.gait: ")
    assert same.largest_difference < 1e-5


class Scripted:
    """Takes the place of a process: gives times by a script, and notes whose turn it was."""

    def __init__(self, took: Callable[[], list[float]], letter: str, order: list[str]) -> None:
        self.ready = (f"scripted {letter}", [np.ones((2, 4, 8), np.float32)])
        self.took, self.letter, self.order = took, letter, order

    def turn(self) -> list[float]:
        self.order.append(self.letter)
        return self.took()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self.order.append(f"end of {self.letter}")


def scripted(monkeypatch: pytest.MonkeyPatch, theirs: Callable[[], list[float]], ours: Any) -> list[str]:
    order: list[str] = []

    def worker(candidate: Any, *arguments: Any) -> Scripted:
        if candidate is against._of_row:
            return Scripted(ours, "B", order)
        return Scripted(theirs, "A", order)

    monkeypatch.setattr(against, "Worker", worker)
    return order


def test_turns_go_there_and_back_so_that_a_drift_cancels(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine slows down by 1 % a turn; the ratio is 2 all the same."""
    turn = itertools.count()

    def took(ms: float) -> list[float]:
        return [ms * 1.01 ** next(turn)] * 3

    order = scripted(monkeypatch, lambda: took(6.0), lambda: took(3.0))
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    found = measured(box, name=str(box), repeats=2, seconds=20.0)
    once = ["A", "B", "B", "A"] * 9
    assert order == [*once, "end of B", "end of A"] * 2
    assert found.speedup.ratio == pytest.approx(2.0, rel=1e-3)  # A B A B would say 1.98
    assert found.verdict == "faster"
    assert found.samples_ms[0][:4] == pytest.approx([6.0, 6.0, 6.0, 6 * 1.01**3])


def test_a_round_counts_by_its_median(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, lambda: [2.0, 900.0, 2.0], lambda: [4.0, 4.0, 700.0])
    found = measured(box, name=str(box))
    assert (found.speedup.ratio, found.verdict) == (pytest.approx(0.5), "slower")
    assert len(found.samples_ms[0]) >= 5 * 6  # as many turns as an interval needs, however short the time
    assert found.figures.end_to_end.max_ms == 900


def test_without_pytorch_it_says_how_to_get_it(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(
        MissingPackage, match=r"a comparison with PyTorch needs torch.*pip install 'gaitedge\[train"
    ):
        measured(box)


def test_another_network_is_not_the_same_work(box: Path, tmp_path: Path) -> None:
    other = bundle_of(UNEVEN).save(tmp_path / "uneven.gait").path
    with pytest.raises(InputError, match=r"uneven\.gait gives embeddings .* not the same work"):
        measured(box, name=str(other))


def test_a_runtime_that_fails_is_one_line() -> None:
    def embed(silhouettes: Any) -> Any:
        raise RuntimeError("not enough memory:\nyou tried to allocate 9e12 bytes")

    candidate = against._serve(embed, "PyTorch", [np.zeros((1, 1, 64, 44), np.uint8)], 0.0)
    with pytest.raises(MachineError, match=r"^PyTorch failed: not enough memory: you tried to allocate"):
        next(candidate)


@pytest.mark.parametrize(
    ("row", "options", "why"),
    [
        (
            dataclasses.replace(ROW, failed="out of memory"),
            {},
            "row 3 has nothing to compare with: out of mem",
        ),
        (
            Row(dataclasses.replace(ROW.configuration, streams=4)),
            {},
            "row 3 makes 4 calls at the same time",
        ),
        (ROW, {"seconds": 0.0}, "seconds=0.0"),
        (ROW, {"seconds": float("nan")}, "seconds=nan"),
        (ROW, {"warmup_s": -1.0}, "warmup_s=-1.0"),
        (ROW, {"repeats": 0}, "repeats=0"),
        (
            ROW,
            {"name": "tensorflow"},
            "with pytorch or with another bundle, FILE.gait, not with 'tensorflow'",
        ),
        (ROW, {"inputs": []}, "2 × 5 frames, the inputs of"),
        (ROW, {"inputs": [np.zeros((2, 6, 64, 44), np.uint8)]}, r"the inputs of \[\(2, 6\)\]"),
    ],
)
def test_bad_input_is_refused_before_a_process_starts(
    box: Path, row: Row, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(InputError, match=why):
        measure_against(box, row, 3, **{"name": str(box), **options})


def test_a_bundle_that_is_not_there_is_named(box: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*nowhere\.gait"):
        measured(box, name=str(tmp_path / "nowhere.gait"))
