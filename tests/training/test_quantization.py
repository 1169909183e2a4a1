"""Fine-tuning for INT8, against the graph that is exported, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from calibrations import HARSH, RECIPE, SMALL, calibrated, embed
from graphs import relative_error, run, smallest_cosine
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import configs, random_silhouettes, random_weights
from onnx import TensorProto, helper
from torch import distributed as dist

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError
from gaitedge.export.graph import Plan, build_graph
from gaitedge.export.plan import layer_names
from gaitedge.model import GaitPart
from gaitedge.training.checkpoints import read_checkpoint, write_checkpoint
from gaitedge.training.presets import Precision
from gaitedge.training.quantization import QuantizedGaitPart, through_int8
from gaitedge.training.starting import Start
from gaitedge.training.trainer import Trainer

# What it computes


def test_int8_rounds_and_cuts_off_as_onnx_does_bit_for_bit() -> None:
    """Ties to even, -128 and 127 at the ends; the gradient passes where nothing was cut off."""
    x = np.concatenate(
        [np.arange(-300, 301) / 2, np.random.default_rng(0).normal(0, 90, 4000)], dtype=np.float32
    )
    for scale in (1.0, 0.5, 1 / 3, 255 / 127, 1e-3):
        nodes = [
            helper.make_node("QuantizeLinear", ["silhouettes", "scale", "zero"], ["levels"]),
            helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["y"]),
        ]
        constants = [
            helper.make_tensor("scale", TensorProto.FLOAT, [], [scale]),
            helper.make_tensor("zero", TensorProto.INT8, [], [0]),
        ]
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [x.size]) for name in ("silhouettes", "y")
        ]
        graph = helper.make_graph(nodes, "one pair", ends[:1], ends[1:], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        ours = torch.from_numpy(x).requires_grad_()
        y = through_int8(ours, torch.tensor(scale))
        assert np.array_equal(y.detach().numpy(), run(model, x)[0])
        (gradient,) = torch.autograd.grad((3 * y).sum(), ours)
        levels = np.round(x / np.float32(scale))
        assert np.array_equal(gradient.numpy(), 3.0 * ((levels >= -128) & (levels <= 127)))


@settings(max_examples=30)
@given(configs(), st.integers(0, 2**20), st.sampled_from([0.8, 1, 2, HARSH]), st.data())
def test_it_is_the_exported_graph(
    config: GaitPartConfig, seed: int, harsh: float, data: st.DataObject
) -> None:
    """Over networks, choices of layers, and ranges that clip.

    Where the last bit of a sum lifts a value over the middle between two levels, its sequence goes on with
    another level: now and then one of the five does, never the most of them.
    """
    weights = random_weights(config, seed)
    scales = tuple(
        pair for pair in calibrated(config, weights, harsh=harsh).scales() if data.draw(st.booleans())
    )
    silhouettes = random_silhouettes(5, 3, seed)
    graph = run(build_graph(config, weights, Plan(scales=scales)), silhouettes)[0]
    ours = embed(QuantizedGaitPart(config, scales).load(weights), silhouettes)
    assert np.median([relative_error(*pair) for pair in zip(ours, graph, strict=True)]) <= 1e-3
    cosines = [smallest_cosine(*pair) for pair in zip(ours, graph, strict=True)]
    assert np.median(cosines) > 0.9999
    assert min(cosines) > 0.999


@pytest.mark.parametrize("layer", layer_names(SMALL))
def test_each_layer_alone_is_quantised(layer: str) -> None:
    """Against the FP32 network: where a layer was left out, nothing would differ."""
    weights, silhouettes = random_weights(SMALL, 3), random_silhouettes(3, 4, 3)
    (pair,) = (pair for pair in calibrated(SMALL, weights, harsh=HARSH).scales() if pair[0] == layer)
    graph = run(build_graph(SMALL, weights, Plan(scales=(pair,))), silhouettes)[0]
    model = QuantizedGaitPart(SMALL, [pair]).load(weights)
    ours, plain = embed(model, silhouettes), embed(GaitPart(SMALL).load(weights), silhouettes)
    assert relative_error(ours, graph) <= 1e-4
    assert relative_error(ours, plain) > 1e-3
    with torch.inference_mode():
        letter = model(torch.from_numpy(silhouettes), letter=True).numpy()
    assert relative_error(letter, plain) <= 1e-5  # the reference stays what it is


def test_pixels_in_the_middle_between_two_levels_go_to_the_even_one() -> None:
    """A scale of 2 puts every odd grey there, and the division by 255 must not move it."""
    weights, silhouettes = random_weights(SMALL, 4), random_silhouettes(2, 3, 4)
    scales = (("fconv1", 2.0),)
    graph = run(build_graph(SMALL, weights, Plan(scales=scales)), silhouettes)[0]
    assert relative_error(embed(QuantizedGaitPart(SMALL, scales).load(weights), silhouettes), graph) <= 1e-5


def test_without_quantised_layers_it_is_the_fp32_network() -> None:
    weights, silhouettes = random_weights(SMALL, 5), random_silhouettes(2, 3, 5)
    calibration = calibrated(SMALL, weights, floating=layer_names(SMALL))
    model = Start(SMALL, weights, calibration).model()
    assert np.array_equal(embed(model, silhouettes), embed(GaitPart(SMALL).load(weights), silhouettes))


def test_a_channel_of_zeros_and_black_silhouettes_stay_finite() -> None:
    weights = random_weights(SMALL, 6)
    weights["frame.2"][1] = 0
    weights["mtb1.squeeze"][:] = 0
    model = Start(SMALL, weights, calibrated(SMALL, weights)).model()
    assert np.isfinite(embed(model, np.zeros((1, 3, 64, 44), np.uint8))).all()
    model(torch.from_numpy(random_silhouettes(2, 3, 6))).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_a_scale_for_no_layer_is_refused() -> None:
    with pytest.raises(InputError, match="no layer 'fconv9' to scale"):
        QuantizedGaitPart(SMALL, [("fconv9", 1.0)])


# Training with it


def test_processes_that_share_a_batch_see_the_same_gradients() -> None:
    weights, silhouettes = random_weights(SMALL, 7), torch.from_numpy(random_silhouettes(2, 3, 7))
    start = Start(SMALL, weights, calibrated(SMALL, weights))
    alone, shared = start.model(), start.model()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        together = torch.nn.parallel.DistributedDataParallel(shared)
        together(silhouettes).square().sum().backward()
    finally:
        dist.destroy_process_group()
    alone(silhouettes).square().sum().backward()
    for ours, theirs in zip(shared.parameters(), alone.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7)
    assert shared.state_dict().keys() == SMALL.shapes().keys()  # a checkpoint is that of the network alone


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_goes_on_bit_for_bit(precision: Precision, tmp_path: Path) -> None:
    weights, labels = random_weights(SMALL, 9), torch.tensor([0, 0, 1, 1])
    start = Start(SMALL, weights, calibrated(SMALL, weights))
    batch = torch.from_numpy(random_silhouettes(4, 3, 9))
    straight, other = (Trainer(SMALL, RECIPE, precision, None, start.model()) for _ in range(2))
    straight.step(1, batch, labels)
    other.load_state(read_checkpoint(write_checkpoint(tmp_path, 1, straight.state(), keep=1)))
    assert straight.step(2, batch, labels) == other.step(2, batch, labels)
    ours, theirs = straight.model.weights(), other.model.weights()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert not any(np.array_equal(ours[name], weights[name]) for name in ours)


def test_autocast_rounds_in_float32() -> None:
    """A scale in bfloat16 is up to 0.4 % off, and level 127 half a level."""
    weights, silhouettes = random_weights(SMALL, 10), torch.from_numpy(random_silhouettes(3, 3, 10))
    model = Start(SMALL, weights, calibrated(SMALL, weights)).model()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = model(silhouettes).float().numpy()
        x, scale = torch.randn(1000).bfloat16(), torch.tensor(0.011)
        assert torch.equal(through_int8(x, scale), through_int8(x.double(), scale))
    assert smallest_cosine(found, embed(model, silhouettes.numpy())) > 0.999
