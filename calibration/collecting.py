"""Show a network walks, watch what its layers read, and settle the range of each.

What is shown of a walk is consecutive frames from a random place, as a camera and an evaluation show
them; the frames of a training batch have gaps, and the micro-motion templates would see faster walks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gaitedge import __version__
from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.correction import apply_factors, equalize
from gaitedge.calibration.observers import OBSERVERS, Histogram
from gaitedge.calibration.progress_file import ProgressFile
from gaitedge.calibration.tensors import Probe
from gaitedge.config import GaitPartConfig
from gaitedge.data.splits import choose_subjects
from gaitedge.data.store import Store
from gaitedge.errors import InputError
from gaitedge.export.exporter import open_model
from gaitedge.files import sha256
from gaitedge.machine.cpu import usable_cores
from gaitedge.weights import Weights, fingerprint

__all__ = [
    "MINIMUM",
    "Method",
    "Progress",
    "calibrate",
    "check_destination",
    "choose",
    "collect",
    "fingerprint_shown",
    "show",
    "unfinished",
]

MINIMUM = 32
"""Sequences. With the shipped weights the FConvs' ranges by mse were within 2 % of those from 500 sequences
where 32 were shown, in four draws of them, and within 8 % where it was 8."""

Method = Literal["minmax", "percentile", "entropy", "mse"]
Progress = Callable[[int, int], None]
"""Called with the number of sequences done and of all."""

_EVERY = 25  # sequences, some three seconds, between two savings of what was counted
_WHY = ": of fewer walks the ranges depend on which ones these are"
_EQUALIZED_ON = 64  # sequences, the first of those that are shown
_STORE = ("frames.npy", "index.jsonl", "store.json")  # what it consists of
_SILHOUETTE = 255.0  # the largest value of what fconv1 reads


def choose(store: Store, subjects: Iterable[str], count: int, seed: int = 0) -> list[int]:
    """The numbers of `count` of a store's sequences, or of all where there are fewer, drawn at random.

    Each is of a view of which the fewest were taken before; among these, of such a condition, by what
    stands before its hyphen; and then of such a subject. Of a data set without gaps the views, the
    conditions and the subjects are thus represented equally, and so they are in the first few of the chosen.
    """
    numbers = np.array(store.select(subjects=set(subjects)), np.int64)
    numbers = np.random.default_rng(seed).permutation(numbers)
    walks = [store.sequences[number] for number in numbers]
    columns = (
        [walk.view for walk in walks],
        [walk.condition.partition("-")[0] for walk in walks],
        [walk.subject for walk in walks],
    )
    keys = [np.unique(np.array(column), return_inverse=True)[1] for column in columns]
    taken = [np.zeros(key.max(initial=0) + 1, np.int64) for key in keys]
    free, chosen = np.ones(len(numbers), bool), []
    for _ in range(min(count, len(numbers))):
        left = np.flatnonzero(free)
        for key, often in zip(keys, taken, strict=True):
            counts = often[key[left]]
            left = left[counts == counts.min()]
        pick = int(left[0])
        free[pick] = False
        for key, often in zip(keys, taken, strict=True):
            often[key[pick]] += 1
        chosen.append(int(numbers[pick]))
    return chosen


def show(store: Store, number: int, frames: int, seed: int = 0) -> NDArray[np.uint8]:
    """What is shown of a sequence: `frames` consecutive ones from a random place, or all of a shorter one."""
    walk = store[number]
    start = int(np.random.default_rng((seed, number)).integers(0, max(len(walk) - frames, 0) + 1))
    return np.ascontiguousarray(walk[start : start + frames])


def fingerprint_shown(store: Store, numbers: Sequence[int], frames: int, seed: int = 0) -> str:
    """SHA-256 over the names of sequences and the frames that are shown of them.

    Raises InputError where there is a sequence of which these are all black, naming it.
    """
    digest, black = hashlib.sha256(), []
    for number in numbers:
        name, shown = store.sequences[number].name, show(store, number, frames, seed)
        digest.update(f"{name} {len(shown)}\n".encode())
        digest.update(shown.data)
        if not shown.any():
            black.append(name)
    if black:
        more = f" and {len(black) - 3} more" if len(black) > 3 else ""
        raise InputError(
            f"nobody is in {', '.join(black[:3])}{more}: all black frames would falsify the ranges; "
            "prepare the store again without them, or choose other --subjects"
        )
    return digest.hexdigest()


def collect(
    config: GaitPartConfig,
    weights: Weights,
    store: Store,
    numbers: Sequence[int],
    frames: int = 30,
    progress: Progress | None = None,
    resume: Path | None = None,
    *,
    seed: int = 0,
    threads: int | None = None,
) -> dict[str, Histogram]:
    """Layer -> the magnitudes that it reads, in the FP32 portable graph; of all layers but fconv1.

    numbers: the sequences to show, as choose gives them. progress: called with how many of them are done,
    and of how many. resume: a file for what was counted so far, from which an interrupted run of the same
    goes on, to the same result; what else is there is replaced. The caller removes it. threads: of the
    runtime, one for each core if None. The memory taken does not depend on the number of sequences.
    Raises InputError, naming it, where a sequence is all black or brings NaN or infinite values.
    """
    probe = Probe(config, weights, threads or usable_cores())
    data = fingerprint_shown(store, numbers, frames, seed)
    saved = _progress_file(resume, probe, fingerprint(config, weights), data) if resume else None
    return _collect(probe, store, numbers, frames, seed, progress, saved)


def calibrate(
    source: Path,
    store: Path,
    out: Path,
    method: Method = "percentile",
    subjects: str = "all",
    sequences: int = 500,
    *,
    frames: int = 30,
    temporal_head: bool = False,
    equalized: bool = True,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
    save: bool = True,
) -> Calibration:
    """Find the ranges of a network's layers on walks of a store, and write them to a file.

    source: a weights file or a bundle. out: the calibration to write; what was counted so far is beside it
    while this runs, and an interrupted run goes on from there. method: of gaitedge.calibration.observers;
    of the four percentile costs the shipped weights the least (docs/int8.md). subjects: a choice as
    gaitedge.data.splits.choose_subjects takes it; those of the training leave the others for a judgement on
    walks that the calibration has not seen. sequences: how many to show, all of the subjects' where there
    are fewer. frames: of each. temporal_head: whether the layers behind HP are to be quantised too.
    equalized: whether the channels of each FConv are made equally large first, which halves what int8 costs
    the shipped weights. progress, threads: as collect takes them. save: False leaves writing to refine, and
    what was counted stays beside `out` until then.
    Raises InputError for an unknown method, for fewer than MINIMUM sequences, where a layer reads nothing
    but zeros, and what collect, load_weights, Bundle.open and Store raise. `out` is then as it was.
    """
    if method not in OBSERVERS:
        raise InputError(f"unknown method {method!r}; there are: {', '.join(OBSERVERS)}")
    threads = usable_cores() if threads is None else threads
    for name, value, least, why in (
        ("sequences", sequences, MINIMUM, _WHY),
        ("frames", frames, 1, ""),
        ("threads", threads, 1, ""),
    ):
        if value < least:
            raise InputError(f"a calibration needs {least} {name} or more, not {value}{why}")
    if seed < 0:
        raise InputError(f"the seed must be 0 or more, not {seed}")
    out = check_destination(Path(out), Path(source), Path(store))
    model, data = open_model(source), Store(store)
    config, weights = model.config, model.weights()
    numbers = choose(
        data, choose_subjects(subjects, (one.subject for one in data.sequences)), sequences, seed
    )
    if len(numbers) < MINIMUM:
        raise InputError(
            f"a calibration needs {MINIMUM} sequences or more, and {store} has {len(numbers)} of "
            f"{subjects}{_WHY}"
        )
    resume = unfinished(out)
    factors = {}
    if equalized:
        walks = [show(data, number, frames, seed) for number in numbers[:_EQUALIZED_ON]]
        factors = equalize(config, weights, walks)
    probe = Probe(config, apply_factors(config, weights, factors), threads)
    identity, shown = fingerprint(config, weights), fingerprint_shown(data, numbers, frames, seed)
    saved = _progress_file(resume, probe, f"{identity} {sorted(factors.items())}", shown)
    try:
        histograms = _collect(probe, data, numbers, frames, seed, progress, saved)
        _check_fired(histograms, len(numbers))
    except InputError:  # once more would give the same
        resume.unlink(missing_ok=True)
        raise
    ranges = {layer: OBSERVERS[method](histogram) for layer, histogram in histograms.items()}
    calibration = Calibration(
        weights=identity,
        data=shown,
        method=method,
        sequences=len(numbers),
        ranges={"fconv1": _SILHOUETTE, **ranges},
        factors=factors,
        floating=() if temporal_head else tuple(one for one in ranges if not one.startswith("fconv")),
        versions={"gaitedge": __version__, probe.runtime: probe.version},
    )
    if save:
        calibration.save(out)
        resume.unlink(missing_ok=True)
    return calibration


def _progress_file(path: Path, probe: Probe, model: str, data: str) -> ProgressFile:
    """For what was counted of these data in this model. Its last digits follow from the runtime, too."""
    facts = [model, data, probe.runtime, probe.version, probe.threads]
    return ProgressFile(path, sha256(json.dumps(facts).encode()))


def _collect(
    probe: Probe,
    store: Store,
    numbers: Sequence[int],
    frames: int,
    seed: int,
    progress: Progress | None,
    saved: ProgressFile | None,
) -> dict[str, Histogram]:
    done, counted = saved.read() if saved else (0, {})
    if progress is not None and done:
        progress(done, len(numbers))
    for position in range(done, len(numbers)):
        shown = show(store, numbers[position], frames, seed)
        for tensor, values in probe.run(shown[None]).items():
            if not np.isfinite(values).all():
                layer = next(layer for layer, tensors in probe.inputs.items() if tensor in tensors)
                raise InputError(
                    f"{layer} reads NaN or infinite values in {store.sequences[numbers[position]].name}: "
                    "the model or its training is broken"
                )
            counted.setdefault(tensor, Histogram()).add(values)
        if saved and (position + 1) % _EVERY == 0:
            saved.write(position + 1, counted)
        if progress is not None:
            progress(position + 1, len(numbers))
    histograms = {}
    for layer, tensors in probe.inputs.items():
        histogram = histograms[layer] = Histogram()
        for tensor in tensors:
            histogram.merge(counted[tensor])
    return histograms


def _check_fired(histograms: dict[str, Histogram], sequences: int) -> None:
    """Raise InputError where a layer has read nothing but zeros, naming it."""
    silent = [layer for layer, histogram in histograms.items() if not histogram.largest]
    if silent:
        raise InputError(
            f"nothing but zeros was read by {', '.join(silent)} in {sequences} sequences: there is no range "
            "in that, the layer before never fires; train it anew"
        )


def unfinished(out: Path) -> Path:
    """Where an interrupted calibration keeps what it has counted."""
    return out.with_name(f".{out.name}.unfinished")


def check_destination(path: Path, source: Path, store: Path) -> Path:
    """Raise InputError unless a file of a calibration can be written at `path`, and none of what it is made
    from is lost by that."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the calibration to write, as in {path / 'int8.json'}")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")
    if path.suffix in (".safetensors", ".gait"):  # the names in the wrong order would cost a training
        raise InputError(f"{path} is a name for a model; name the calibration to write, as in int8.json")
    if path.resolve() in [one.resolve() for one in (source, *(store / name for name in _STORE))]:
        raise InputError(
            f"{path} is a part of what is calibrated or shown; name another file, as in int8.json"
        )
    return path
