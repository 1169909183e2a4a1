"""Two corrections of a quantised network: equalised channels, and biases that undo a shift of the mean.

Both cost nothing when the network runs. Nagel et al., "Data-Free Quantization Through Weight Equalization
and Bias Correction", ICCV 2019, is where they come from.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.tensors import Probe
from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError, require
from gaitedge.export.graph import Plan, build_graph
from gaitedge.export.plan import layer_names
from gaitedge.machine.cpu import usable_cores
from gaitedge.weights import Weights

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["LARGEST_GAIN", "Progress", "apply_factors", "correct_biases", "equalize"]

LARGEST_GAIN = 16.0
"""By which a channel may be enlarged at most: one that is all but silent in the calibration and not
elsewhere would be clipped there."""

Progress = Callable[[int, int], None]
"""Called with the number of runs done and of all."""


# Equalisation -------------------------------------------------------------------------------------


def equalize(
    config: GaitPartConfig,
    weights: Weights,
    sequences: Sequence[NDArray[np.uint8]],
    progress: Progress | None = None,
) -> dict[str, tuple[float, ...]]:
    """FConv -> a factor for each of its output channels, above 0 and at most 1, that makes the channels
    which the next FConv reads equally large.

    An FConv's input has one scale, set by its largest channel; of a smaller one most levels lie idle.
    Dividing each channel by its factor before, and multiplying the weights behind it, changes nothing in
    floating point (apply_factors). The published method balances the weights of both layers, which have one
    scale a layer there; ours have one for each output channel, whose factor costs them nothing, so that the
    factor follows from the activations alone. The largest channel keeps its size, and with it the range of
    the input. A channel grows by LARGEST_GAIN at most; one that is always 0 keeps its factor of 1.

    sequences: silhouettes of calibration, each [frames, 64, 44]. The last FConv's factors are 1 and not
    listed: its outputs reach a sigmoid. Raises InputError without sequences, MissingPackage as Probe does.
    """
    _check(sequences)
    probe = Probe(config, weights, usable_cores())
    largest: dict[str, NDArray[np.float32]] = {}
    for done, sequence in enumerate(sequences, 1):
        found = probe.run(sequence[None])
        for layer, name in _following(config):
            for tensor in probe.inputs[name]:
                channels = np.abs(found[tensor]).max(axis=(0, 2, 3))
                largest[layer] = np.maximum(largest.get(layer, 0), channels)
        if progress is not None:
            progress(done, len(sequences))
    factors = {}
    for layer, channels in largest.items():
        top = np.float64(channels.max())
        share = channels / top if top else np.ones_like(channels)
        factors[layer] = tuple(np.where(share > 0, share.clip(1 / LARGEST_GAIN), 1.0).tolist())
    return factors


def apply_factors(
    config: GaitPartConfig, weights: Weights, factors: Mapping[str, Sequence[float]]
) -> Weights:
    """Weights whose FConvs give each output channel divided by its factor, and take it multiplied.

    The same network, up to rounding: LeakyReLU and max-pool are positively homogeneous. factors: FConv -> one
    for each output channel, above 0; an FConv that is not there keeps its size. Raises InputError where
    factors do not fit, or are for another layer or for the last FConv, whose outputs reach a sigmoid.
    """
    following, equal = dict(_following(config)), dict(weights)
    for layer, values in factors.items():
        if layer not in following:
            raise InputError(f"no factors can be applied to {layer}; to {', '.join(following) or 'none'}")
        here, there = (f"frame.{int(name.removeprefix('fconv')) - 1}" for name in (layer, following[layer]))
        factor = np.asarray(values, np.float64)
        if factor.shape != equal[here].shape[:1] or not (np.isfinite(factor) & (factor > 0)).all():
            raise InputError(f"the factors of {layer} must be {len(equal[here])} numbers above 0")
        equal[here] = (equal[here] / factor[:, None, None, None]).astype(np.float32)
        equal[there] = (equal[there] * factor[None, :, None, None]).astype(np.float32)
    return equal


def _following(config: GaitPartConfig) -> list[tuple[str, str]]:
    """Each FConv but the last, and the one that reads what it gives."""
    names = [name for name in layer_names(config) if name.startswith("fconv")]
    return list(itertools.pairwise(names))


# Bias correction ----------------------------------------------------------------------------------


def correct_biases(
    config: GaitPartConfig,
    weights: Weights,
    calibration: Calibration,
    sequences: Sequence[NDArray[np.uint8]],
    progress: Progress | None = None,
) -> dict[str, tuple[float, ...]]:
    """Quantised layer -> the bias of each of its output channels that gives these their FP32 means back.

    E[W x] − E[Wq xq] over calibration silhouettes, before the activation; layer by layer in the network's
    order, each in a network that has the biases of those before it. The means are measured, in the graph
    that TensorRT gets; the paper infers them from batch normalisation, which GaitPart lacks.

    weights: as trained; the calibration's factors are applied here, biases that it has already are not
    looked at. sequences: each [frames, 64, 44]; each counts the same. A layer that has weights of its own for
    each part has its biases part after part. Raises InputError without sequences or where the calibration
    is of other weights, MissingPackage where ONNX Runtime is not installed.
    """
    _check(sequences)
    calibration.check(config, weights)
    weights = apply_factors(config, weights, calibration.factors)
    plan = Plan(scales=calibration.scales())
    layers = [layer for layer in layer_names(config) if layer in dict(plan.scales)]
    done, total = 0, (1 + len(layers)) * len(sequences)

    def means(model: ModelProto, wanted: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        nonlocal done
        measured, found = _MeanOutputs(model, wanted), []
        for sequence in sequences:
            found.append(measured.run(sequence))
            done += 1
            if progress is not None:
                progress(done, total)
        return dict(zip(wanted, (np.mean(each, axis=0) for each in zip(*found, strict=True)), strict=True))

    exact = means(build_graph(config, weights), layers)
    biases: dict[str, NDArray[np.float32]] = {}
    for layer in layers:
        found = means(build_graph(config, weights, plan, biases), [layer])
        biases[layer] = (exact[layer] - found[layer]).astype(np.float32)
    return {layer: tuple(bias.tolist()) for layer, bias in biases.items()}


class _MeanOutputs:
    """A graph cut down to the mean of each output channel of some layers, in ONNX Runtime.

    OpenVINO would run int8 faster; here its sums are to be right to the last digits.
    """

    def __init__(self, model: ModelProto, layers: Sequence[str]) -> None:
        from onnx import helper

        runtime = require("onnxruntime", "correcting biases")
        graph = model.graph
        read = {node.name: node.input[0] for node in graph.node if node.op_type == "LeakyRelu"}
        outputs = []
        for layer in layers:
            tensor = read[f"{layer}.relu"] if layer.startswith("fconv") else layer
            tensor, axes = ("embeddings", [0]) if layer == "fc" else (tensor, [0, 2, 3])
            mean = f"{layer}.mean"
            graph.node.append(helper.make_node("ReduceMean", [tensor], [mean], axes=axes, keepdims=0))
            outputs.append(helper.make_empty_tensor_value_info(mean))
        del graph.output[:]
        graph.output.extend(outputs)
        _cut(model)
        runtime.disable_telemetry_events()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        options.log_severity_level = 3  # errors only
        self._session = runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, sequence: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """The means of each layer, [channels], for silhouettes [frames, 64, 44]."""
        found = self._session.run(None, {"silhouettes": sequence[None]})
        return [np.asarray(each, np.float64).ravel() for each in found]


def _cut(model: ModelProto) -> None:
    """Take away what the outputs do not follow from: ONNX Runtime would compute it."""
    needed, kept = {output.name for output in model.graph.output}, []
    for node in reversed(model.graph.node):
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))


def _check(sequences: Sequence[NDArray[np.uint8]]) -> None:
    if not sequences:
        raise InputError("a correction needs silhouettes to be measured on, and there are no sequences")
