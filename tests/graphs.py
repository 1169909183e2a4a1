"""Run a written graph, and what it must agree with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import onnx
import onnx.inliner
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from gaitedge.config import GaitPartConfig
from gaitedge.export.graph import Plan, build_graph
from gaitedge.export.plan import HP, layer_names
from gaitedge.model import GaitPart
from gaitedge.weights import Weights


def run(
    model: onnx.ModelProto, silhouettes: NDArray[np.uint8], *outputs: str, optimise: bool = True
) -> list[NDArray[np.float32]]:
    """Outputs in ONNX Runtime; all of the model's where none is named.

    optimise: not with fp8, which its optimiser moves to where it has no kernels.
    """
    options = ort.SessionOptions()
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 2
    options.log_severity_level = 3  # it warns of every constant that it folds away
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(list(outputs) or None, {"silhouettes": silhouettes})


def run_in_openvino(model: onnx.ModelProto, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The model's only output in OpenVINO, which reads no functions, in the types of the graph."""
    from gaitedge.engines.openvino import shared_core

    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    settings = {"INFERENCE_NUM_THREADS": 2, "INFERENCE_PRECISION_HINT": "dynamic"}
    core = shared_core()
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    return np.array(compiled([silhouettes])[0], np.float32)


def reference(
    config: GaitPartConfig, weights: Weights, silhouettes: NDArray[np.uint8], *, features: bool = False
) -> NDArray[np.float32]:
    """The paper's letter in PyTorch: embeddings, or the part features."""
    with torch.inference_mode():
        model = GaitPart(config).load(weights)
        run_model = model.part_features if features else model
        return run_model(torch.from_numpy(silhouettes), letter=True).numpy()


def in_every_precision(plans: Iterable[Plan]) -> list[Plan]:
    """Each plan in fp32 and fp16, and in bf16 where it has no plugin."""
    return [
        dataclasses.replace(plan, precision=precision)
        for plan in plans
        for precision in ("fp32", "fp16", "bf16")
        if precision != "bf16" or "plugin" not in (plan.fconv, plan.micro_motion)
    ]


def check(model: onnx.ModelProto) -> list[int | str]:
    """Pass ONNX' checker and its strict shape inference; the output's sizes as the latter finds them."""
    onnx.checker.check_model(model, full_check=True)
    unsized = onnx.ModelProto()
    unsized.CopyFrom(model)
    unsized.graph.output[0].type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(unsized, strict_mode=True, data_prop=True)
    sizes = inferred.graph.output[0].type.tensor_type.shape.dim
    return [size.dim_value or size.dim_param for size in sizes]


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest difference over the largest magnitude."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def smallest_cosine(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Of any part's embedding with its reference."""
    lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    return float(((found * expected).sum(-1) / lengths).min())


Scales = tuple[tuple[str, float], ...]


def unit_scales(config: GaitPartConfig) -> Scales:
    """A scale of 1 for every layer."""
    return tuple((name, 1.0) for name in layer_names(config))


def measured_scales(config: GaitPartConfig, weights: Weights, silhouettes: NDArray[np.uint8]) -> Scales:
    """Each layer's largest input in the FP32 graph over 127, and HP's; a calibration asks the same of real
    walks."""
    scaled = build_graph(config, weights, Plan(scales=unit_scales(config)))
    inputs = {HP: [f"fconv{len(config.strips)}.relu"]}
    for node in scaled.graph.node:
        if node.name.endswith(".input.quantize"):
            layer = next(name for name in layer_names(config) if f".{name}." in f".{node.name}.")
            inputs.setdefault(layer, []).append(node.input[0])
    model = build_graph(config, weights)
    tensors = sorted({tensor for tensors in inputs.values() for tensor in tensors})
    for tensor in tensors:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    found = dict(zip(tensors, run(model, silhouettes, *tensors), strict=True))
    largest = {
        name: max(float(np.abs(found[tensor]).max()) for tensor in tensors)
        for name, tensors in inputs.items()
    }
    return tuple((name, value / 127 or 1.0) for name, value in largest.items())


def constants(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """Name -> value of the model's initialisers."""
    return {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
