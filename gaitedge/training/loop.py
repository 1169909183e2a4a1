"""Training from a store to weights: checkpoints, records, evaluation, and going on after a stop."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gaitedge.config import GaitPartConfig
from gaitedge.data.splits import choose_subjects
from gaitedge.errors import GaitEdgeError, InputError, MachineError, WeightsError, require
from gaitedge.files import atomic_write, sha256
from gaitedge.machine.cpu import usable_cores
from gaitedge.machine.memory import keep_freed_memory
from gaitedge.machine.workers import begin_worker, undisturbed
from gaitedge.training.checkpoints import newest, read_checkpoint, write_checkpoint
from gaitedge.training.distributed import Team, team
from gaitedge.training.judging import judge, to_judge
from gaitedge.training.presets import Recipe
from gaitedge.training.records import Records, read_log
from gaitedge.training.runs import CALIBRATION, CHECKPOINTS, STOPPED, WEIGHTS, describe, open_run
from gaitedge.training.sampling import BatchSampler, Drawn
from gaitedge.training.starting import Start
from gaitedge.training.trainer import Step, Trainer, settle_precision
from gaitedge.weights import save_weights

if TYPE_CHECKING:
    from gaitedge.data.store import Store

__all__ = ["RunOptions", "Trained", "batches", "train"]

_GPU_WORKERS = 4  # not measured beside a GPU yet
_SHOWN = 6  # sequences that an error names itself
_FULL = re.compile(r"allocate memory|not enough memory|out of memory", re.IGNORECASE)  # in PyTorch's words


@dataclass(frozen=True)
class RunOptions:
    """How a training runs. Nothing here changes the weights that come out, but for a device's rounding.

    Raises InputError where a value is impossible.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int | None = None
    """Processes that prepare batches; None: none beside a CPU, 4 beside a GPU. They are started afresh: a
    script that trains with any needs `if __name__ == "__main__"`."""
    log_every: int = 20
    checkpoint_every: int = 500
    keep: int = 3
    """Checkpoints that stay; the oldest goes first."""
    evaluate_every: int = 0
    """0: never."""
    evaluate_on: str = "all"
    """Subjects, as choose_subjects takes them, of the same store."""

    def __post_init__(self) -> None:
        for name, least in (("log_every", 1), ("checkpoint_every", 1), ("keep", 1), ("evaluate_every", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be {least} or more, not {getattr(self, name)}")
        if self.workers is not None and self.workers < 0:
            raise InputError(f"workers must be 0 or more, not {self.workers}")


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    weights: Path
    iterations: int
    went_on_from: int
    """The iteration at which this start began; 0 where it began anew."""
    figures: dict[str, Any]
    """The last figures of its log."""


def train(
    store: Store,
    run: Path,
    recipe: Recipe,
    config: GaitPartConfig | None = None,
    subjects: str = "all",
    options: RunOptions | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    crew: Team | None = None,
    start: Start | None = None,
) -> Trained:
    """Train on a store, in the folder `run`; where a training was stopped there, it goes on exactly.

    subjects: whom to train on, as choose_subjects takes it. report: called in the first process with
    every line of the log, `iterations` and `eta` in seconds added. crew: the processes that share every
    batch, those that torchrun started if None; `run` must be on a disk that all of them see. start: the
    weights to begin with instead of random ones; where it has a calibration they are fine-tuned for its
    INT8, and `run` gets one of the weights that come out. On a CPU this process keeps the memory that it
    frees, for good: steps are up to 1.7 times as fast.
    Raises InputError where the options are impossible or `run` holds something else, GaitEdgeError
    where loss or gradient are not finite: with the iteration, the batch and the last checkpoint, and
    MachineError where the memory does not suffice.
    """
    require("tensorboard", "writing a training's events")
    options, run = options or RunOptions(), Path(run)
    config = config or (start.config if start else GaitPartConfig())
    if start and start.config != config:
        raise InputError("the weights to start from are of another network than this training's preset")
    chosen = choose_subjects(subjects, {sequence.subject for sequence in store.sequences})
    with contextlib.ExitStack() as stack:
        crew = crew or stack.enter_context(team(options.device))
        precision = settle_precision(recipe.precision, crew.device)
        recipe = replace(recipe, precision=precision)
        sampler = BatchSampler(store, chosen, recipe, crew.rank, crew.world)
        judged = to_judge(store, options.evaluate_on) if options.evaluate_every else []
        first = crew.rank == 0
        about = describe(config, recipe, store, chosen) | (start.describe() if start else {})
        if not crew.agree(int(sha256(json.dumps(about).encode())[:15], 16)):
            raise InputError("the processes of this training were started with different options or stores")
        if first:
            stack.enter_context(open_run(run, about))
        crew.wait()
        if crew.device.type == "cpu":
            keep_freed_memory()
        stack.enter_context(_limits_in_words(recipe, crew))
        trainer = Trainer(config, recipe, precision, crew, start.model() if start else None)
        begin = _go_on(run, trainer)
        if not crew.agree(begin):
            raise InputError(f"not every process sees {run}/checkpoints: put {run} on a disk that they share")
        if first and begin and not all((run / name).exists() for name in _results(start)):
            _save(run, trainer, start)
        # A kill during an evaluation, which comes after the checkpoint, must not cost its figures.
        owing = bool(judged) and _is_due(begin, recipe, options) and not _was_judged(run, begin)
        if begin >= recipe.iterations and not owing:
            steps = [line for line in read_log(run) if "loss" in line]
            return Trained(run / WEIGHTS, begin, begin, steps[-1] if steps else {})
        records = stack.enter_context(Records(run, begin)) if first else None
        progress = _Progress(recipe, begin, records, report)
        if owing:
            progress.judged(begin, judge(trainer.model, store, judged, crew))
        feed = stack.enter_context(
            contextlib.closing(batches(sampler, begin + 1, recipe.iterations, options, crew))
        )
        for iteration, silhouettes, labels in feed:
            step = trainer.step(iteration, silhouettes, labels)
            if step.broken:
                _stop(run, iteration, step.broken, sampler, records)
            last = iteration == recipe.iterations
            if last or iteration % options.log_every == 0:
                progress.step(iteration, step)
            if first and (last or iteration % options.checkpoint_every == 0):
                try:
                    _save(run, trainer, start)
                except WeightsError:
                    _stop(run, iteration, "the weights are no longer finite", sampler, records)
                write_checkpoint(run / CHECKPOINTS, iteration, trainer.state(), options.keep)
            if judged and _is_due(iteration, recipe, options):
                progress.judged(iteration, judge(trainer.model, store, judged, crew))
        return Trained(run / WEIGHTS, max(begin, recipe.iterations), begin, progress.figures)


def _results(start: Start | None) -> list[str]:
    return [WEIGHTS, CALIBRATION] if start and start.calibration else [WEIGHTS]


def _save(run: Path, trainer: Trainer, start: Start | None) -> None:
    """Write the weights, and the calibration of just these. Raises WeightsError where they are not finite."""
    weights = trainer.model.weights()
    save_weights(run / WEIGHTS, trainer.model.config, weights)
    if start and (calibration := start.calibration_of(weights)):
        calibration.save(run / CALIBRATION)


def _is_due(iteration: int, recipe: Recipe, options: RunOptions) -> bool:
    """Whether there is an evaluation after an iteration."""
    return iteration > 0 and (iteration >= recipe.iterations or iteration % options.evaluate_every == 0)


def _was_judged(run: Path, iteration: int) -> bool:
    return any("rank1" in line and line["iteration"] == iteration for line in read_log(run))


def _go_on(run: Path, trainer: Trainer) -> int:
    """Load the newest checkpoint of a run; gives its iteration, or 0 where there is none."""
    checkpoint = newest(run / CHECKPOINTS)
    if checkpoint is None:
        return 0
    state = read_checkpoint(checkpoint)
    try:
        trainer.load_state(state)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        raise InputError(
            f"the checkpoint {checkpoint} is not of this training; delete it to go on from the one before"
        ) from None
    return int(state["iteration"])


@contextlib.contextmanager
def _limits_in_words(recipe: Recipe, crew: Team) -> Iterator[None]:
    """Say what to do where the memory does not suffice; PyTorch says it in a page, each time another one."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _FULL.search(str(error)):
            raise
        what = f"{recipe.subjects},{recipe.samples},{recipe.frames}"
        where = "the GPU" if crew.device.type == "cuda" else "this machine"
        raise MachineError(f"{where} has not the memory to train on batches of {what}: give less") from None


def batches(
    sampler: BatchSampler, first: int, last: int, options: RunOptions, crew: Team
) -> Generator[tuple[int, Tensor, Tensor], None, None]:
    """This process's rows of the batches `first` to `last`, as Trainer.step takes them.

    Workers prepare them ahead; the batches are the same with any number of them.
    """
    gpu = crew.device.type == "cuda"
    workers = options.workers
    if workers is None:
        workers = min(_GPU_WORKERS, usable_cores()) if gpu else 0
    loader: DataLoader[tuple[int, Tensor, Tensor]] = DataLoader(
        _Batches(sampler),
        sampler=range(first, last + 1),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,  # a fork copies locks that threads hold
        pin_memory=gpu,
        worker_init_fn=_begin if workers else None,
    )
    if not workers:
        yield from loader
        return
    resource_tracker.ensure_running()  # by itself: it lets go of the signals that are held below
    with undisturbed(), _dead_workers_found_by_the_loader():
        feed = iter(loader)
    try:
        yield from feed
    except (ConnectionError, EOFError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise MachineError(
            "a process that prepares batches was killed, perhaps for want of memory: train with fewer "
            "workers; it goes on from the last checkpoint"
        ) from None


@contextlib.contextmanager
def _dead_workers_found_by_the_loader() -> Iterator[None]:
    """Take back the handler that PyTorch gives SIGCHLD: it raises an error wherever this process is, in
    a destructor or a clean-up too. Without it the loader finds a dead worker itself, within 5 seconds."""
    settable = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if settable else None
    try:
        yield
    finally:
        if settable:
            signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def _begin(_: int) -> None:
    begin_worker()


class _Batches(Dataset[tuple[int, Tensor, Tensor]]):
    def __init__(self, sampler: BatchSampler) -> None:
        self.sampler = sampler

    def __getitem__(self, iteration: int) -> tuple[int, Tensor, Tensor]:
        silhouettes, labels = self.sampler.batch(iteration)
        return iteration, torch.from_numpy(silhouettes), torch.from_numpy(labels)


class _Progress:
    """Figures of the steps, into the log and to the caller; in the first process alone."""

    def __init__(
        self,
        recipe: Recipe,
        begin: int,
        records: Records | None,
        report: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        self.recipe, self.begin, self.records, self.report = recipe, begin, records, report
        kept = [line for line in records.kept if "loss" in line] if records else []
        self.figures: dict[str, Any] = kept[-1] if kept else {}
        self.before = float(self.figures.get("seconds", 0))  # spent in earlier starts
        self.last, self.began = begin, time.perf_counter()
        self.marked = self.began

    def step(self, iteration: int, step: Step) -> None:
        now = time.perf_counter()
        a_step = (now - self.marked) / (iteration - self.last)
        recipe = self.recipe
        self.figures = {
            "iteration": iteration,
            "loss": step.loss,
            "nonzero": step.nonzero,
            "norm": step.norm,
            "learning_rate": recipe.rate(iteration),
            "images_per_second": round(recipe.subjects * recipe.samples * recipe.frames / a_step, 1),
            "seconds": round(self.before + now - self.began, 1),
        }
        self.marked, self.last = now, iteration
        mean = (now - self.began) / (iteration - self.begin)
        self._tell(self.figures, (recipe.iterations - iteration) * mean)

    def judged(self, iteration: int, rank1: dict[str, float]) -> None:
        self._tell({"iteration": iteration, "rank1": rank1}, None)
        self.marked = time.perf_counter()  # an evaluation is no slow step

    def _tell(self, figures: dict[str, Any], eta: float | None) -> None:
        if self.records is None:
            return
        self.records.add(figures)
        if self.report:
            self.report({**figures, "iterations": self.recipe.iterations, "eta": eta})


def _stop(run: Path, iteration: int, what: str, sampler: BatchSampler, records: Records | None) -> None:
    """End a training that has gone wrong, and say with what."""
    drawn: Drawn = sampler.draw(iteration)
    names = [sampler.store.sequences[number].name for number in drawn.sequences]
    rows = [
        {"sequence": name, "frames": frames.tolist()}
        for name, frames in zip(names, drawn.frames, strict=True)
    ]
    if records:  # the first process
        records.add({"iteration": iteration, "stopped": what})
        with atomic_write(run / STOPPED) as file:
            file.write(json.dumps({"iteration": iteration, "what": what, "batch": rows}).encode())
    checkpoint = newest(run / CHECKPOINTS)
    good = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint yet"
    then = "goes on from there" if checkpoint else "begins anew"
    shown = ", ".join(names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more (all in {run / STOPPED})" if len(names) > _SHOWN else ""
    raise GaitEdgeError(
        f"{what} at iteration {iteration}, in the batch of {shown}{more}; {good}: run it again with a lower "
        f"learning rate, with clipped gradients or in fp32, and it {then}"
    )
