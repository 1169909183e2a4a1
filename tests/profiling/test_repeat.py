"""One repeat of a row: what it finds, and what a lack of memory becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import SMALL, bundle_of
from candidates import with_little_memory
from numpy.typing import NDArray
from processes import linux
from profiling_cases import wanted

from gaitedge.errors import InputError, MachineError
from gaitedge.machine.cpu import usable_cores
from gaitedge.profiling import repeat as module
from gaitedge.profiling.document import Energy
from gaitedge.profiling.repeat import Loaded, Repeat, Settings, repeat
from gaitedge.profiling.turns import Worker

QUICK = Settings(0.01, 0.0, None, 0, False)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return bundle_of(SMALL).save(tmp_path / "walkers.gait").path


@pytest.mark.parametrize("engine", ["auto", "openvino", "onnxruntime"])
def test_a_repeat_of_a_cpus_engine(engine: str, bundle: Path) -> None:
    turns = repeat(bundle, wanted(2, engine=engine, threads=1, streams=2, frames=4), QUICK, 0)
    loaded = next(turns)
    assert loaded.engine == ("openvino" if engine == "auto" else engine)
    assert (loaded.precision, loaded.threads) == ("fp32", 1)
    found: Repeat = next(turns)
    assert found.loaded == loaded
    assert found.load_ms > 0
    assert found.measurement.first_run_ms > 0
    assert found.measurement.warmup_runs >= 2
    assert found.measurement.calls_per_second > 0
    assert found.control_ms is not None
    assert found.energy is None
    assert set(found.before) == set(found.after)


def test_the_first_repeat_asks_for_energy(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measure_energy(run: Any, device: str) -> Energy:
        asked.append((device, run()))
        return Energy("a sensor")

    monkeypatch.setattr(module, "measure_energy", measure_energy)
    monkeypatch.setattr(module, "_ENERGY_S", 0.01)
    settings = Settings(0.01, 0.0, None, 0, True)
    for number, energy in ((0, Energy("a sensor")), (1, None)):
        turns = repeat(bundle, wanted(3, threads=1, frames=4), settings, number)
        next(turns)
        assert next(turns).energy == energy
    ((device, sequences),) = asked
    assert device == "cpu"
    assert sequences >= 9
    assert sequences % 3 == 0


class Engine:
    """Fails as a runtime does."""

    precision, description, largest_batch = "fp32", "a fake", None
    config = SMALL

    def __init__(self, name: str, error: BaseException) -> None:
        self.name, self.error = name, error

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise self.error


def onnxruntime_failure() -> BaseException:
    from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

    return RuntimeException("bad allocation")  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", [lambda: RuntimeError("Failed to\nallocate"), onnxruntime_failure])
def test_what_a_runtime_raises_is_one_line(make: Any, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load", lambda *_, **__: Engine("openvino", make()))
    turns = repeat(bundle, wanted(), QUICK, 0)
    assert next(turns) == Loaded("openvino", "fp32", usable_cores(), "a fake")
    with pytest.raises(MachineError, match=r"^the runtime failed: (Failed to allocate|bad allocation)$"):
        next(turns)


def test_a_bug_stays_one(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load", lambda *_, **__: Engine("openvino", ZeroDivisionError()))
    turns = repeat(bundle, wanted(), QUICK, 0)
    next(turns)
    with pytest.raises(ZeroDivisionError):
        next(turns)


def test_threads_are_a_cpus(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load", lambda *_, **__: Engine("cuda", ZeroDivisionError()))
    with pytest.raises(InputError, match="threads are of a CPU's engine, not of cuda: leave them out"):
        next(repeat(bundle, wanted(threads=2), QUICK, 0))
    assert next(repeat(bundle, wanted(), QUICK, 0)).threads is None


class Gpu(Engine):
    """Works."""

    def __init__(self, name: str) -> None:
        super().__init__(name, ZeroDivisionError())
        self.calls = 0

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.calls += 1
        return np.zeros((len(silhouettes), SMALL.parts, SMALL.embedding_dim), np.float32)


@pytest.mark.parametrize(("name", "engines"), [("tensorrt", 1), ("cuda", 3)])
def test_streams_and_memory_of_a_gpu(
    name: str, engines: int, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked, used = [], [], iter([700, 500])

    def load(*_: object, **options: object) -> Gpu:
        asked.append(options)
        made.append(Gpu(name))
        return made[-1]

    monkeypatch.setattr(module, "load", load)
    monkeypatch.setattr("gaitedge.engines.cuda_memory.device_memory_used", lambda: next(used))
    turns = repeat(bundle, wanted(streams=3), QUICK, 0)
    assert next(turns) == Loaded(name, "fp32", None, "a fake")
    found: Repeat = next(turns)
    assert asked == [{"in_flight": 3}] * engines
    assert all(one.calls > 3 for one in made)
    assert found.memory.device_peak == 700
    assert found.control_ms is None  # it is the GPU's speed that matters


@pytest.mark.parametrize("wrong", [np.zeros((1, 4, 8)), np.full((2, 4, 8), np.nan), np.zeros((0, 4, 8))])
def test_a_call_that_ends_early_is_no_fast_one(
    wrong: NDArray[np.float64], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Gpu("openvino")
    engine.embed = lambda _: wrong.astype(np.float32)  # type: ignore[method-assign]
    monkeypatch.setattr(module, "load", lambda *_, **__: engine)
    turns = repeat(bundle, wanted(2), QUICK, 0)
    next(turns)
    with pytest.raises(MachineError, match="openvino gives no embeddings of 2 sequences of 30 frames"):
        next(turns)


@linux
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_batch_beyond_the_memory_is_an_error_of_its_row(
    engine: str, bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its silhouettes still fit; it is the runtime that finds no room for what it makes of them."""
    row = wanted(600, engine=engine, threads=1)
    failing = pytest.raises((MachineError, MemoryError))
    with failing as failure, Worker(with_little_memory, bundle, row, QUICK) as worker:
        worker.turn()
    assert "exit status" not in str(failure.value)
    assert "Traceback" not in capfd.readouterr().err
