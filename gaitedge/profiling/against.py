"""The same work through something else, in turns with a row: a ratio that a noisy machine does not move.

The paper's letter in eager PyTorch, or another bundle, runs in a process beside the row's engine. Both get
the same inputs and the same threads, and take turns in the order A B B A, so that whatever drifts over a
minute weighs on both alike. A turn is one call to warm the caches, which the other one has used meanwhile,
and three that count; the two medians of a round make one ratio. Both are started anew a few times, because
a process keeps the place in memory that it got.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import statistics
import time
from collections.abc import Callable, Generator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.engines import load
from gaitedge.errors import InputError, require
from gaitedge.files import printable
from gaitedge.machine.cpu import usable_cores
from gaitedge.profiling.bootstrap import paired_interval, verdict
from gaitedge.profiling.document import Against, Configuration, Figures, Row
from gaitedge.profiling.figures import summarize
from gaitedge.profiling.inputs import make_inputs
from gaitedge.profiling.runtime_errors import runtime_errors
from gaitedge.profiling.turns import Worker

__all__ = ["check_against", "measure_against"]

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Inputs = Sequence[NDArray[np.uint8]]

PYTORCH = "pytorch"
_WHY = "a comparison with PyTorch"
_TIMED = 3  # calls of a turn
_LEAST_TIMES = 2  # A B B A, of a start; five where there is one start


def measure_against(
    bundle: Path,
    row: Row,
    row_number: int,
    *,
    name: str = PYTORCH,
    seconds: float = 10.0,
    repeats: int = 5,
    warmup_s: float = 0.5,
    seed: int = 0,
    inputs: Inputs | None = None,
    progress: Callable[[float], None] | None = None,
) -> Against:
    """Measure a row's engine in turns with something else that does the same work.

    bundle: the file that the row ran, or the variant of it; row_number: the row's in its profile. name:
    "pytorch", the letter of the paper in eager PyTorch with the bundle's weights, on the GPU where the row
    ran on one and PyTorch has it; or another .gait file, with the engine that `load` takes for it. seconds:
    of all turns together, in `repeats` starts of both, whose warm-up of `warmup_s` each comes on top. inputs:
    silhouettes, each [batch, frames, 64, 44] of the row, that calls take in turn; drawn from the seed if
    None. progress: called with the share that is done.

    Calls come one after the other. Raises InputError on a value out of range, a row that failed or has
    several streams, or a bundle whose embeddings have another shape; MissingPackage where there is no
    PyTorch; MachineError where a runtime fails; and what Bundle.open and load raise.
    """
    wanted = row.configuration
    _check(row, row_number, seconds, warmup_s, repeats)
    other = check_other(name)
    silhouettes = _inputs(wanted, inputs, seed)
    rounds: list[list[tuple[float, float]]] = []
    samples: list[list[float]] = []
    shown, difference = "", 0.0
    for number in range(repeats):
        with contextlib.ExitStack() as workers:
            theirs = workers.enter_context(Worker(_of_other, other, bundle, wanted, silhouettes, warmup_s))
            ours = workers.enter_context(Worker(_of_row, bundle, wanted, silhouettes, warmup_s))
            shown, reference = theirs.ready
            difference = max(difference, _largest_difference(ours.ready[1], reference, name))
            took, pairs = _turns(
                theirs,
                ours,
                seconds / repeats,
                _LEAST_TIMES if repeats > 1 else 5,
                functools.partial(_say, progress, number, repeats),
            )
        samples.append(took)
        rounds.append(pairs)
    speedup = paired_interval(rounds, seed).interval
    return Against(
        row=row_number,
        name=shown,
        figures=Figures(summarize([ms for one in samples for ms in one])),
        samples_ms=samples,
        speedup=speedup,
        verdict=verdict(speedup),
        largest_difference=difference,
    )


def _say(progress: Callable[[float], None] | None, done: int, repeats: int, share: float) -> None:
    if progress is not None:
        progress((done + share) / repeats)


def _check(row: Row, number: int, seconds: float, warmup_s: float, repeats: int) -> None:
    if row.failed is not None:
        raise InputError(f"row {number} has nothing to compare with: {row.failed}")
    if row.configuration.streams != 1:
        raise InputError(
            f"row {number} makes {row.configuration.streams} calls at the same time, and turns are taken one "
            "call after the other: compare a row with 1 stream"
        )
    if not seconds > 0 or not warmup_s >= 0 or repeats < 1:
        raise InputError(
            "a comparison needs seconds above 0, a warm-up of 0 s or more and 1 repeat or more, not "
            f"seconds={seconds}, warmup_s={warmup_s}, repeats={repeats}"
        )


def check_against(name: str, bundle: Bundle, streams: int) -> None:
    """Raise, before a row is measured, what measure_against would raise after it.

    name: as there. bundle: whose rows there will be. streams: the fewest of a row. Raises InputError on
    another network or where no row has 1 stream, MissingPackage where there is no PyTorch, and what
    Bundle.open raises.
    """
    if streams != 1:
        raise InputError("--against takes turns one call after the other: have 1 among --streams")
    other = check_other(name)
    if other is None:
        return
    theirs, ours = Bundle.open(other).config, bundle.config
    if (theirs.parts, theirs.embedding_dim) != (ours.parts, ours.embedding_dim):
        raise InputError(
            f"{name} gives embeddings {[theirs.parts, theirs.embedding_dim]}, the bundle "
            f"{[ours.parts, ours.embedding_dim]}: that is another network, not the same work"
        )


def check_other(name: str) -> Path | None:
    """Another bundle's path; None is PyTorch.

    Raises InputError where the name is neither, MissingPackage where there is no PyTorch, and what
    Bundle.open raises.
    """
    if name == PYTORCH:
        if importlib.util.find_spec("torch") is None:
            require("torch", _WHY)
        return None
    if Path(name).suffix.lower() != ".gait":
        raise InputError(
            f"a row is compared with pytorch or with another bundle, FILE.gait, not with {name!r:.80}"
        )
    Bundle.open(Path(name))  # it is not there, or damaged: say so before a process is started
    return Path(name)


def _inputs(wanted: Configuration, inputs: Inputs | None, seed: int) -> list[NDArray[np.uint8]]:
    if inputs is None:
        return make_inputs(None, wanted.batch, wanted.frames, seed, 0)
    shapes = {one.shape[:2] for one in inputs}
    if shapes != {(wanted.batch, wanted.frames)}:
        raise InputError(
            f"the row is of {wanted.batch} × {wanted.frames} frames, the inputs of {sorted(shapes)}"
        )
    return list(inputs)


def _largest_difference(
    ours: list[NDArray[np.float32]], theirs: list[NDArray[np.float32]], name: str
) -> float:
    """Relative to the largest magnitude of theirs."""
    if ours[0].shape != theirs[0].shape:
        raise InputError(
            f"{name} gives embeddings {list(theirs[0].shape)}, the row {list(ours[0].shape)}: "
            "that is another network, not the same work"
        )
    largest = max(float(np.abs(one).max()) for one in theirs)
    apart = max(float(np.abs(one - other).max()) for one, other in zip(ours, theirs, strict=True))
    return apart / largest if largest else apart


def _turns(
    theirs: Worker, ours: Worker, seconds: float, least: int, progress: Callable[[float], None]
) -> tuple[list[float], list[tuple[float, float]]]:
    """All of their times, and the medians of both for each round, theirs first."""
    took: list[float] = []
    rounds: list[tuple[float, float]] = []
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds or len(rounds) < 2 * least:
        progress(min(spent / seconds, 1.0))
        first, second, third, fourth = theirs.turn(), ours.turn(), ours.turn(), theirs.turn()
        took += [*first, *fourth]
        rounds.append((statistics.median(first), statistics.median(second)))
        rounds.append((statistics.median(fourth), statistics.median(third)))
    progress(1.0)
    return took, rounds


# In processes of their own --------------------------------------------------------------------------


def _of_row(path: Path, wanted: Configuration, inputs: Inputs, warmup_s: float) -> Generator[Any, None, None]:
    engine = load(Bundle.open(path), wanted.engine, wanted.threads, wanted.precision)
    yield from _serve(engine.embed, engine.description, inputs, warmup_s)


def _of_other(
    other: Path | None, path: Path, wanted: Configuration, inputs: Inputs, warmup_s: float
) -> Generator[Any, None, None]:
    """other: a bundle; None is the letter, of the weights in the row's bundle at `path`."""
    bundle = Bundle.open(path)
    if other is None:
        embed, shown = _letter(bundle, wanted.threads)
    else:
        found = Bundle.open(other)
        engine = load(found, threads=wanted.threads)
        weights = "" if found.fingerprint == bundle.fingerprint else ", of other weights"
        embed, shown = engine.embed, f"{printable(other.name)}{weights}: {engine.description}"
    yield from _serve(embed, shown, inputs, warmup_s)


def _letter(bundle: Bundle, threads: int | None) -> tuple[Embed, str]:
    """The paper's letter in eager PyTorch, and what to call it. threads: None where the row is a GPU's."""
    torch = require("torch", _WHY)
    from gaitedge.model import GaitPart

    torch.set_num_threads(threads or usable_cores())
    device = "cuda" if threads is None and torch.cuda.is_available() else "cpu"
    model = GaitPart(bundle.config).load(bundle.weights()).eval().to(device)
    on = f" on {torch.cuda.get_device_name()}" if device == "cuda" else ""
    # As PyTorch comes: whoever reads the difference of the embeddings should know.
    tf32 = ", convolutions in TF32" if device == "cuda" and torch.backends.cudnn.allow_tf32 else ""

    def embed(silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(silhouettes).to(device), letter=True).cpu().numpy())

    return embed, f"PyTorch {torch.__version__} eager{on}, the paper's letter{tf32}"


def _serve(embed: Embed, shown: str, inputs: Inputs, warmup_s: float) -> Generator[Any, None, None]:
    """What it is called and all embeddings, once it is warm; then the milliseconds of each turn's calls."""
    endless = cycle(inputs)
    with runtime_errors(shown):
        embeddings = [embed(silhouettes) for silhouettes in inputs]
        end = time.perf_counter() + warmup_s
        while time.perf_counter() < end:
            embed(next(endless))
        yield shown, embeddings
        while True:
            embed(next(endless))
            yield [_milliseconds(embed, next(endless)) for _ in range(_TIMED)]


def _milliseconds(embed: Embed, silhouettes: NDArray[np.uint8]) -> float:
    start = time.perf_counter_ns()
    embed(silhouettes)
    return (time.perf_counter_ns() - start) / 1e6
