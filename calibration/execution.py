"""What a runtime computes each layer in, read from the graph that it runs, not from the one it was given.

A quantised graph that loads and gives right embeddings may still run in float: where a runtime finds no
int8 kernel for what stands around a layer it dequantises, and is slower than without. So it is read off.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from pathlib import Path

from gaitedge.bundle import Bundle
from gaitedge.engines.executed import in_onnxruntime, in_openvino, named
from gaitedge.engines.openvino import has_bf16, shared_core
from gaitedge.errors import InputError, MachineError, require

__all__ = ["executed", "executed_targets"]

_HINTS = {"fp32": "f32", "bf16": "bf16"}
_PRODUCTS = ("Conv", "MatMul")
_PIECE = re.compile(r"^part\d+\.|\.strip\d+$|\.by_part$")  # of a layer that is several nodes


def executed(graph: bytes, runtime: str = "openvino", floating: str = "fp32") -> dict[str, str]:
    """Load a graph of build_graph and tell what each of its layers is computed in.

    graph: serialised, fp32 its float type. runtime: "openvino" or "onnxruntime". floating: what OpenVINO is
    to compute float layers in, "fp32" or "bf16". Gives layer (as in gaitedge.export.plan.layer_names) ->
    "int8", "fp32", "bf16" or "fp16", or several of these where strips or parts of one layer differ, as in
    "fp32/int8".
    Raises InputError on another runtime or type, MissingPackage where the runtime is not installed,
    MachineError where a layer cannot be found in what it runs.
    """
    import onnx

    if floating not in _HINTS:
        raise InputError(f"floating must be one of {', '.join(_HINTS)}, not {floating!r}")
    products = [node.name for node in onnx.load_from_string(graph).graph.node if node.op_type in _PRODUCTS]
    if runtime == "openvino":
        found = _in_openvino(graph, _HINTS[floating], products)
    elif runtime == "onnxruntime":
        found = _in_onnxruntime(graph, products)
    else:
        raise InputError(f"unknown runtime {runtime!r}; there are: openvino, onnxruntime")
    layers: dict[str, set[str]] = {}
    for name in products:
        if name not in found:
            raise MachineError(f"{runtime} does not tell what it computes {name} in")
        layers.setdefault(_layer(name), set()).add(found[name])
    return {layer: "/".join(sorted(types)) for layer, types in layers.items()}


def executed_targets(bundle: Bundle) -> dict[str, dict[str, str]]:
    """Target of a CPU in int8 -> what each of its layers is computed in, where its runtime is installed.

    In OpenVINO with the layers in floating point as its engine has them: in BF16 where the processor has it.
    """
    found = {}
    for name, target in sorted(bundle.manifest.targets.items()):
        runtime = target.engine
        if target.graph is None or runtime == "any" or importlib.util.find_spec(runtime) is None:
            continue
        try:
            floating = "bf16" if runtime == "openvino" and has_bf16() else "fp32"
            found[name] = executed(bundle.read(target.graph), runtime, floating)
        except MachineError:  # of a degenerate network, whose products are no such nodes any more
            continue
    return found


def _layer(name: str) -> str:
    """Of "part3.mtb1.squeeze", "fconv3.strip1" or "fc.by_part": mtb1.squeeze, fconv3, fc."""
    return _PIECE.sub("", name)


def _in_openvino(graph: bytes, hint: str, products: list[str]) -> dict[str, str]:
    """Product -> type, from the execution graph."""
    core = shared_core()
    compiled = core.compile_model(core.read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": hint})
    found: dict[str, str] = {}
    for one in in_openvino(compiled):
        if one.product:
            names = named(one.names, products) or named(one.operands, products)
            found |= dict.fromkeys(names, one.precision or "unknown")
    return found


def _in_onnxruntime(graph: bytes, products: list[str]) -> dict[str, str]:
    """Product -> type, from the optimised graph as it is before tensors are laid out for the kernels, which
    takes away the names and changes no type."""
    import onnx

    runtime = require("onnxruntime", "reading what ONNX Runtime computes in")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        optimised = onnx.load(path)
    found: dict[str, str] = {}
    for one in in_onnxruntime(optimised):
        if one.product:
            names = named(one.names, products) or named(one.operands, products)
            found |= dict.fromkeys(names, one.precision or "fp32")
    return found
