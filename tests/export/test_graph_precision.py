"""FP16 and BF16 in the graph: every weight and activation is of the type, and how far that is from FP32.

The tolerances are three to four times the worst of 150 random networks: 1.3e-3 and 0.999996 in FP16,
1.2e-2 and 0.9998 in BF16.
"""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import onnx
import pytest
import torch
from graphs import reference, relative_error, run, run_in_openvino, smallest_cosine
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import configs, random_silhouettes, random_weights

from gaitedge.config import GaitPartConfig
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.errors import InputError
from gaitedge.export.graph import Plan, build_frame_graph, build_graph
from gaitedge.weights import load_weights, shipped_weights

FORMS = [(f, m) for f in ("fold", "split", "plugin") for m in ("grouped", "per_part", "plugin")]
WITHOUT_PLUGINS = [form for form in FORMS if "plugin" not in form]
TYPED = [(f, m, p) for f, m in FORMS for p in ("fp16", "bf16") if p == "fp16" or "plugin" not in (f, m)]
TYPES = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
SMALL = GaitPartConfig(channels=(4, 8, 12))
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="needs OpenVINO, the one runtime here with BF16"
)


def wide(config: GaitPartConfig) -> GaitPartConfig:
    """With embeddings long enough that they are not all small differences of large numbers."""
    return dataclasses.replace(config, embedding_dim=16)


@settings(max_examples=40)
@given(
    configs().map(wide), st.sampled_from(FORMS), st.integers(1, 3), st.integers(1, 40), st.integers(0, 2**16)
)
def test_fp16_is_near_the_letter(
    config: GaitPartConfig, form: tuple[str, str], batch: int, frames: int, seed: int
) -> None:
    weights, silhouettes = random_weights(config, seed), random_silhouettes(batch, frames, seed)
    expected = reference(config, weights, silhouettes)
    (found,) = run(build_graph(config, weights, Plan(*form, precision="fp16")), silhouettes)  # type: ignore[arg-type]
    assert found.dtype == np.float32
    assert relative_error(found, expected) <= 5e-3
    assert smallest_cosine(found, expected) >= 0.9999


@needs_openvino
@settings(max_examples=25)
@given(
    configs().map(wide),
    st.sampled_from(WITHOUT_PLUGINS),
    st.integers(1, 2),
    st.integers(1, 20),
    st.integers(0, 2**16),
)
def test_bf16_is_near_the_letter(
    config: GaitPartConfig, form: tuple[str, str], batch: int, frames: int, seed: int
) -> None:
    weights, silhouettes = random_weights(config, seed), random_silhouettes(batch, frames, seed)
    expected = reference(config, weights, silhouettes)
    found = run_in_openvino(
        build_graph(config, weights, Plan(*form, precision="bf16")),  # type: ignore[arg-type]
        silhouettes,
    )
    assert relative_error(found, expected) <= 4e-2
    assert smallest_cosine(found, expected) >= 0.998


@pytest.mark.parametrize("precision", ["fp16", pytest.param("bf16", marks=needs_openvino)])
def test_the_shipped_weights(precision: str) -> None:
    """As measured: 6e-4 and a cosine of 0.9999997 in FP16, 6e-3 and 0.99997 in BF16."""
    config, weights = load_weights(shipped_weights())
    silhouettes = draw_silhouettes(2, 12, np.random.default_rng(0))
    expected = reference(config, weights, silhouettes)
    model = build_graph(config, weights, Plan(precision=precision))  # type: ignore[arg-type]
    found = run(model, silhouettes)[0] if precision == "fp16" else run_in_openvino(model, silhouettes)
    error, cosine = relative_error(found, expected), smallest_cosine(found, expected)
    assert 0 < error <= {"fp16": 2e-3, "bf16": 2e-2}[precision]
    assert cosine >= {"fp16": 0.999999, "bf16": 0.9998}[precision]


@pytest.mark.parametrize("build", [build_graph, build_frame_graph])
@pytest.mark.parametrize("form", TYPED, ids="-".join)
def test_every_number_is_of_the_type_and_casts_are_at_the_ends(
    form: tuple[str, str, str], build: object
) -> None:
    plan, precision = Plan(*form), form[2]  # type: ignore[arg-type]
    model = build(SMALL, random_weights(SMALL, 0), plan)  # type: ignore[operator]
    integers = {onnx.TensorProto.INT64}
    assert {constant.data_type for constant in model.graph.initializer} <= {TYPES[precision], *integers}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    ends = {"pixels.float32"} if precision == "bf16" else set()
    between = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    assert {kind for name, kind in between.items() if name not in ends} <= {TYPES[precision], *integers}
    casts = [index for index, node in enumerate(model.graph.node) if node.op_type == "Cast"]
    # The plugin that ends with FC writes float32 by itself, inside of which nothing else does.
    last = len(model.graph.node) - 1
    by_itself = model.graph.node[last].op_type == "GaitEdgeMicroMotion"
    assert casts == [*range(len(ends) + 1), *([] if by_itself else [last])]
    inside = [node.name for function in model.functions for node in function.node if node.op_type == "Cast"]
    assert inside == (["fc.float32", "tp.float32"] if by_itself else [])


def test_bf16_weights_are_rounded_as_pytorch_rounds_them() -> None:
    weights = random_weights(SMALL, 0)
    model = build_graph(SMALL, weights, Plan(precision="bf16"))
    raw = {constant.name: constant.raw_data for constant in model.graph.initializer}
    for name, array in (("fconv3.weight", weights["frame.2"]), ("fc.weight", weights["fc"])):
        rounded = torch.from_numpy(array).bfloat16().view(torch.int16).numpy()
        assert np.array_equal(np.frombuffer(raw[name], np.int16), rounded.ravel())


def test_dividing_by_255_in_the_first_convolution_costs_fp16_nothing() -> None:
    """A seventh of the shipped first weights over 255 are below FP16's smallest normal number. Moving a
    power of two from the second convolution to the first, which changes nothing else, lifts them all: it
    gains nothing."""
    config, weights = load_weights(shipped_weights())
    silhouettes = draw_silhouettes(2, 12, np.random.default_rng(0))
    expected = reference(config, weights, silhouettes)
    small = np.abs(weights["frame.0"] / 255) < np.finfo(np.float16).tiny
    lifted = {**weights, "frame.0": weights["frame.0"] * 16, "frame.1": weights["frame.1"] / 16}
    errors = []
    for those in (weights, lifted):
        (found,) = run(build_graph(config, those, Plan(precision="fp16")), silhouettes)
        errors.append(float(np.sqrt(np.mean((found - expected) ** 2))))
    assert small.mean() > 0.1
    assert errors[0] <= 1.1 * errors[1]


def test_a_weight_beyond_fp16_is_refused() -> None:
    weights = random_weights(SMALL, 0)
    weights["frame.3"][0, 0, 0, 0] = 1e5
    with pytest.raises(InputError, match=r"fconv4\.weight holds 1e\+05, beyond fp16; export it in fp32"):
        build_graph(SMALL, weights, Plan(precision="fp16"))
    assert len(build_graph(SMALL, weights, Plan(precision="bf16")).graph.node) > 0
