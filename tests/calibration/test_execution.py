"""Which layers really run in int8, read from the execution graphs of OpenVINO and ONNX Runtime."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from graphs import measured_scales

from gaitedge.calibration.execution import executed
from gaitedge.config import GaitPartConfig
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.errors import InputError
from gaitedge.export.graph import Plan, build_frame_graph, build_graph
from gaitedge.export.plan import HP, bias_shapes, layer_names
from gaitedge.machine.cpu import cpu_features
from gaitedge.weights import Weights, load_weights, shipped_weights

VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}
pytestmark = pytest.mark.skipif(
    VNNI.isdisjoint(cpu_features()), reason="this processor has none of the int8 instructions of x86"
)
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")
needs_onnx_runtime = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="needs ONNX Runtime"
)
FCONVS = tuple(f"fconv{layer}" for layer in range(1, 7))
FORMS = [(f, m) for f in ("fold", "fold_nhwc", "split") for m in ("grouped", "per_part")]

CONFIG, WEIGHTS = load_weights(shipped_weights())
SCALES = dict(measured_scales(CONFIG, WEIGHTS, draw_silhouettes(1, 4, np.random.default_rng(0))))


def graph(*layers: str, form: tuple[str, str] = ("fold", "grouped"), placement: str = "chain") -> bytes:
    scales = tuple((layer, SCALES[layer]) for layer in layers)
    plan = Plan(*form, scales=scales, placement=placement)  # type: ignore[arg-type]
    return bytes(build_graph(CONFIG, WEIGHTS, plan).SerializeToString())


def in_int8(found: dict[str, str]) -> list[str]:
    return [layer for layer, type_ in found.items() if type_ == "int8"]


@needs_openvino
@pytest.mark.parametrize("form", FORMS, ids="-".join)
@pytest.mark.parametrize("layers", [FCONVS, FCONVS[1:], ("fconv3", "fc"), layer_names(CONFIG)], ids=len)
def test_openvino_runs_exactly_the_asked_layers_in_int8(
    layers: tuple[str, ...], form: tuple[str, str]
) -> None:
    found = executed(graph(*layers, form=form))
    assert tuple(found) == layer_names(CONFIG)
    assert in_int8(found) == list(layers)
    assert {found[layer] for layer in found if layer not in layers} <= {"fp32"}


@needs_onnx_runtime
@pytest.mark.parametrize("form", FORMS, ids="-".join)
@pytest.mark.parametrize("layers", [FCONVS, FCONVS[1:], (*FCONVS, "fc")], ids=len)
def test_onnx_runtime_runs_exactly_the_asked_layers_in_int8(
    layers: tuple[str, ...], form: tuple[str, str]
) -> None:
    found = executed(graph(*layers, HP, form=form), "onnxruntime")
    assert tuple(found) == layer_names(CONFIG)
    assert in_int8(found) == list(layers)
    assert {found[layer] for layer in found if layer not in layers} == {"fp32"}


@needs_onnx_runtime
def test_onnx_runtime_needs_the_chain() -> None:
    """Pairs at the inputs leave its convolutions in float, and so does the last one without HP's scale."""
    assert in_int8(executed(graph(*FCONVS, placement="inputs"), "onnxruntime")) == []
    assert in_int8(executed(graph(*FCONVS), "onnxruntime")) == list(FCONVS[:5])


@pytest.mark.parametrize(
    ("runtime", "scaled"),
    [
        pytest.param("openvino", FCONVS, marks=needs_openvino),
        pytest.param("onnxruntime", (*FCONVS, HP), marks=needs_onnx_runtime),
    ],
)
def test_biases_leave_the_layers_in_int8(runtime: str, scaled: tuple[str, ...]) -> None:
    plan = Plan(scales=tuple((layer, SCALES[layer]) for layer in scaled), placement="chain")
    biases = {layer: np.full(shape, 0.01, np.float32) for layer, shape in bias_shapes(CONFIG).items()}
    for build in (build_graph, build_frame_graph):
        model = build(CONFIG, WEIGHTS, plan, biases)
        assert in_int8(executed(model.SerializeToString(), runtime)) == list(FCONVS)  # type: ignore[arg-type]


@needs_openvino
@pytest.mark.parametrize("layers", [(), FCONVS], ids=len)
def test_float_layers_run_in_what_is_asked(layers: tuple[str, ...]) -> None:
    if not {"avx512_bf16", "amx_bf16"} & cpu_features():
        pytest.skip("this processor has no BF16 instructions")
    found = executed(graph(*layers), floating="bf16")
    assert in_int8(found) == list(layers)
    assert {found[layer] for layer in found if layer not in layers} == {"bf16"}


@needs_openvino
@needs_onnx_runtime
@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_a_graph_of_floats_has_nothing_in_int8(form: tuple[str, str]) -> None:
    for runtime in ("openvino", "onnxruntime"):
        assert set(executed(graph(form=form), runtime).values()) == {"fp32"}  # type: ignore[arg-type]


@needs_openvino
def test_networks_of_other_shapes_are_read_too() -> None:
    config = GaitPartConfig(channels=(8, 16), strips=(2, 3, 1, 4), parts=5, templates=(2,))
    rng = np.random.default_rng(0)
    weights: Weights = {
        name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in config.shapes().items()
    }
    scales = (("fconv1", 2.0), ("fconv2", 0.1), ("mtb2.squeeze", 0.1))
    for form in FORMS:
        model = build_graph(config, weights, Plan(*form, scales=scales, placement="chain"))  # type: ignore[arg-type]
        found = executed(model.SerializeToString())
        assert tuple(found) == layer_names(config)
        assert in_int8(found) == [name for name, _ in scales]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"runtime": "tensorrt"}, "unknown runtime 'tensorrt'; there are: openvino, onnxruntime"),
        ({"floating": "fp16"}, "floating must be one of fp32, bf16, not 'fp16'"),
    ],
)
def test_what_cannot_be_read_is_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        executed(graph(), **options)  # type: ignore[arg-type]
