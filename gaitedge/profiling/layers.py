"""Where a call's time goes, layer by layer, as the runtime's own clocks have it."""

from __future__ import annotations

import dataclasses
import operator
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.engines import Engine, check_batch, load
from gaitedge.engines.timing import LayerTime, LayerTimer
from gaitedge.errors import InputError, MachineError
from gaitedge.export.network import Network
from gaitedge.profiling.document import Configuration, Layers, Roofline
from gaitedge.profiling.inputs import make_inputs
from gaitedge.profiling.layer_blocks import graph_of, tells_bytes, to_blocks, to_layers
from gaitedge.profiling.turns import PAUSE_S

__all__ = ["measure_layers"]

_TURN_S = 0.1  # of either engine; a session of ONNX Runtime is made for each
_LEAST_TURNS = 3
_SOURCES = {
    "cuda": "CUDA events around the kernels",
    "onnxruntime": "ONNX Runtime's profile",
    "openvino": "OpenVINO's performance counters",
    "tensorrt": "TensorRT's profiler",
}


def measure_layers(
    bundle: Path | Bundle,
    configuration: Configuration,
    row: int,
    *,
    seconds: float = 1.0,
    seed: int = 0,
    inputs: Sequence[NDArray[np.uint8]] | None = None,
    roofline: Roofline | None = None,
) -> Layers:
    """Run one configuration, one call at a time, and tell each layer's time and each block's.

    In turns with calls of the same engine without the layers' clocks, so that what these cost can be told.
    row: the number to write down. seconds: of both together, after they are warm. inputs: silhouettes, each
    [batch, frames, 64, 44] of the configuration; drawn from the seed where there are none. roofline: what the
    blocks are held against. Raises InputError where a value is out of range or inputs have another shape,
    MachineError where the engine cannot tell, and what gaitedge.engines.load raises.
    """
    if not 0 < seconds < float("inf"):
        raise InputError(f"a measurement of layers takes more than 0 seconds, not {seconds}")
    calls = _calls(configuration, seed, inputs)
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    name, threads, precision = configuration.engine, configuration.threads, configuration.precision
    engine = load(bundle, name, threads, precision, layers=True)
    if not isinstance(engine, LayerTimer):
        raise MachineError(f"{name} does not tell what its layers take")
    # On a GPU the layers' clocks are there only while layers are timed, and its memory may not hold two.
    counted = engine.name in ("openvino", "onnxruntime")
    plain = load(bundle, name, threads, precision) if counted else engine

    _embed(engine, calls)
    once = _embed(plain, calls) / len(calls)
    number = max(1, round(_TURN_S * 1e3 / once)) if once else 1
    sums: dict[str, LayerTime] = {}
    ran = 0
    unclocked: list[float] = []
    clocked: list[float | None] = []
    end = time.perf_counter() + seconds
    while len(clocked) < _LEAST_TURNS or time.perf_counter() < end:
        chosen = [calls[(ran + place) % len(calls)] for place in range(number)]
        time.sleep(PAUSE_S)
        found = engine.layer_times(chosen)
        for layer in found.layers:
            before = sums.get(layer.name)
            sums[layer.name] = dataclasses.replace(layer, ms=layer.ms + before.ms) if before else layer
        clocked.append(found.total_ms)
        time.sleep(PAUSE_S)
        unclocked.append(_embed(plain, chosen))
        ran += number

    whole = [] if None in clocked else [ms for ms in clocked if ms is not None]
    times = list(sums.values())
    graph = graph_of(bundle, engine.name, precision, {node for layer in times for node in layer.nodes})
    network = Network(graph, configuration.batch, configuration.frames)
    layers = to_layers(network, bundle.config, times, ran)
    return Layers(
        row=row,
        source=_SOURCES[engine.name],
        layers=layers,
        blocks=to_blocks(
            graph, network, bundle.config, layers, times, roofline, tells_bytes(graph, precision)
        ),
        sum_ms=sum(layer.ms for layer in layers),
        total_ms=sum(whole or unclocked) / ran,
        plain_ms=sum(unclocked) / ran if whole else None,
        clock_cost=statistics.median(map(operator.truediv, whole, unclocked)) - 1 if whole else None,
    )


def _calls(
    configuration: Configuration, seed: int, inputs: Sequence[NDArray[np.uint8]] | None
) -> list[NDArray[np.uint8]]:
    batch, frames = configuration.batch, configuration.frames
    if batch < 1 or frames < 1:
        raise InputError(f"a call needs 1 sequence and 1 frame or more, not {batch} and {frames}")
    if inputs is None:
        return make_inputs(None, batch, frames, seed, 0)
    calls = [check_batch(silhouettes) for silhouettes in inputs]
    for silhouettes in calls:
        if silhouettes.shape[:2] != (batch, frames):
            raise InputError(
                f"the inputs are {silhouettes.shape[0]} sequences of {silhouettes.shape[1]} frames, "
                f"the configuration is {batch} of {frames}"
            )
    if not calls:
        raise InputError("there are no inputs to measure with")
    return calls


def _embed(engine: Engine, calls: Sequence[NDArray[np.uint8]]) -> float:
    """Milliseconds of all these calls."""
    start = time.perf_counter()
    for silhouettes in calls:
        engine.embed(silhouettes)
    return (time.perf_counter() - start) * 1e3
