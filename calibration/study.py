"""Networks of which some layers are quantised, run on a store's sequences beside the one in FP32."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import make_bundle
from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.correction import apply_factors
from gaitedge.config import GaitPartConfig
from gaitedge.data.splits import choose_subjects
from gaitedge.data.store import Store
from gaitedge.engines import Engine, embed_all, load
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.evaluation.evaluating import Progress, Walks, evaluate_embeddings
from gaitedge.evaluation.protocols import choose_protocol, select
from gaitedge.export.agreement import cosines, measure
from gaitedge.export.graph import Plan, build_graph
from gaitedge.manifest import Target
from gaitedge.weights import Weights

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["LATENCY_SHAPE", "Change", "Study"]

LATENCY_SHAPE = (1, 30)
"""Batch and frames."""

_RUNS = 40  # of each engine, in turn with the others
_SPOTS = 4  # sequences on which OpenVINO is held against ONNX Runtime
_SAME = 0.9999  # the cosine there: the last level of int8 may differ, and little else


@dataclass(frozen=True)
class Change:
    """What is between a quantised network and the same one in FP32, on the same sequences."""

    relative_error: float
    """Largest absolute difference of two embeddings over the largest magnitude in FP32."""
    mean_cosine: float
    """Of each part's two embeddings, over all parts and sequences."""
    minimum_cosine: float
    rank1: dict[str, float | None]
    """Probe set -> rank-1 of the quantised network, 0 to 1; None where it has no probes."""
    change: dict[str, float | None]
    """Probe set -> that less FP32's, in percentage points."""

    @property
    def drop(self) -> float:
        """By how many percentage points rank-1 falls in the probe set in which it falls most; below 0 where
        it rises in all of them."""
        return 0.0 - min(points for points in self.change.values() if points is not None)


class Study:
    """The networks that are compared, and the sequences on which they are; each set of layers is run once."""

    def __init__(
        self,
        config: GaitPartConfig,
        weights: Weights,
        calibration: Calibration,
        plan: Plan,
        threads: int | None,
        store: Store,
        subjects: str,
        protocol: str,
    ) -> None:
        self._config, self._threads, self._as_trained = config, threads, weights
        self._weights = apply_factors(config, weights, calibration.factors)
        self._scales, self._plan = dict(calibration.scales()), plan
        self._biases = {name: np.asarray(bias, np.float32) for name, bias in calibration.biases.items()}
        people = choose_subjects(subjects, (one.subject for one in store.sequences))
        numbers = store.select(subjects=people)
        walks = [store.sequences[number] for number in numbers]
        rules = choose_protocol(protocol, (walk.condition for walk in walks))
        chosen = select(walks, rules)
        taken = sorted([*chosen.gallery, *chosen.probes])
        self.numbers, self.protocol = [numbers[index] for index in taken], rules.name
        self._walks = [walks[index] for index in taken]
        self._sequences = Walks(store, self.numbers)
        step = max(1, len(taken) // _SPOTS)
        self._spots = [self._sequences[index] for index in range(0, len(taken), step)][:_SPOTS]
        self._changes: dict[frozenset[str], Change] = {}
        self._progress: Progress | None = None
        self._done = self._total = 0

    def report(self, progress: Progress | None, networks: int) -> None:
        """Whom to tell of the progress, and how many networks will be run."""
        self._progress, self._total = progress, networks * len(self.numbers)

    def embed_fp32(self) -> dict[str, float | None]:
        """Run the network in FP32, which the others are compared with; gives its rank-1 by probe set."""
        self._exact = self._embed(build_graph(self._config, self._as_trained))
        self._rank1 = self._judge(self._exact)
        return self._rank1

    def change(self, layers: Collection[str]) -> Change:
        """What quantising these layers changes."""
        if (key := frozenset(layers)) not in self._changes:
            found = self._embed(self._graph(key))
            cosine, rank1 = cosines(found, self._exact), self._judge(found)
            self._changes[key] = Change(
                relative_error=measure([found], [self._exact], "FP32").relative_error,
                mean_cosine=float(cosine.mean()),
                minimum_cosine=float(cosine.min()),
                rank1=rank1,
                change={name: _points(new, self._rank1[name]) for name, new in rank1.items()},
            )
        return self._changes[key]

    def latency(self, networks: Sequence[Collection[str]]) -> tuple[list[float], float, str]:
        """Median milliseconds with these layers quantised, or those; the same of FP32; and the engine.

        All of them run in turn, so that what else the machine does falls upon all of them alike.
        """
        name = "openvino" if importlib.util.find_spec("openvino") is not None else "onnxruntime"
        engines = [self._load(self._graph(layers), name, "int8") for layers in networks]
        engines.append(self._load(build_graph(self._config, self._as_trained), name, "fp32"))
        silhouettes = draw_silhouettes(*LATENCY_SHAPE, np.random.default_rng(0))
        for engine in engines * 3:
            engine.embed(silhouettes)
        times = np.empty((_RUNS, len(engines)))
        for run in times:
            for place, engine in enumerate(engines):
                start = time.perf_counter()
                engine.embed(silhouettes)
                run[place] = time.perf_counter() - start
        *quantised, exact = (1e3 * np.median(times, axis=0)).tolist()
        return quantised, exact, engines[0].description.partition(";")[0]

    def _graph(self, layers: Collection[str]) -> ModelProto:
        scales = tuple((layer, scale) for layer, scale in self._scales.items() if layer in layers)
        biases = {layer: bias for layer, bias in self._biases.items() if layer in layers}
        return build_graph(self._config, self._weights, replace(self._plan, scales=scales), biases)

    def _embed(self, graph: ModelProto) -> NDArray[np.float32]:
        engine = self._load(graph, "onnxruntime", "fp32")
        if importlib.util.find_spec("openvino") is not None:
            faster = self._load(graph, "openvino", "fp32")
            found, wanted = (embed_all(one, self._spots) for one in (faster, engine))
            if cosines(found, wanted).min() >= _SAME:
                engine = faster

        self._total = max(self._total, self._done + len(self.numbers))  # of a search nobody knows how long

        def report(done: int, _: int) -> None:
            if self._progress is not None:
                self._progress(self._done + done, self._total, "embedding")

        embeddings = embed_all(engine, self._sequences, progress=report)
        self._done += len(self.numbers)
        return embeddings

    def _load(self, graph: ModelProto, engine: str, precision: str) -> Engine:
        """precision: "int8" for the engine as it is exported, "fp32" for all that is not int8 in FP32."""
        member = "graphs/studied.onnx"
        # Not as "cpu", of whose graphs OpenVINO keeps the compiled form for the next start.
        targets = {f"onnxruntime-{precision}": Target("onnxruntime", precision, graph=member)}
        parts = {member: graph.SerializeToString()}
        return load(
            make_bundle(self._config, self._weights, parts, targets), engine, self._threads, precision
        )

    def _judge(self, embeddings: NDArray[np.float32]) -> dict[str, float | None]:
        found = evaluate_embeddings(embeddings, self._walks, self.protocol)
        return {name: figures.all_probes.mean for name, figures in found.probe_sets.items()}


def _points(new: float | None, old: float | None) -> float | None:
    """A change in percentage points."""
    return None if new is None or old is None else 100 * (new - old)
