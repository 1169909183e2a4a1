from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graphs import relative_error, run
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import configs, random_silhouettes, random_weights
from numpy.typing import NDArray

from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.correction import LARGEST_GAIN, apply_factors, correct_biases, equalize
from gaitedge.calibration.tensors import Probe, layer_inputs
from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError
from gaitedge.export.graph import Plan, build_graph
from gaitedge.export.plan import layer_names
from gaitedge.weights import Weights, fingerprint

# 3 strips of 16 rows are unequal, so the convolutions of that layer are several.
SMALL = GaitPartConfig(channels=(4, 8, 12), strips=(1, 1, 4, 3, 8, 8), parts=4, embedding_dim=8)
FCONVS = [f"fconv{number}" for number in range(2, 7)]
SEQUENCES = [random_silhouettes(1, frames, frames)[0] for frames in (5, 9, 7)]


def channel_ranges(config: GaitPartConfig, weights: Weights) -> dict[str, NDArray[np.float64]]:
    """FConv -> the largest magnitude of each channel of its input, in SEQUENCES."""
    model = build_graph(config, weights)
    inputs = {
        layer: tensors for layer, tensors in layer_inputs(model.graph, config).items() if layer in FCONVS
    }
    largest = {}
    for layer, tensors in inputs.items():
        found = [
            np.abs(each).max(axis=(0, 2, 3)) for seq in SEQUENCES for each in exposed(model, tensors, seq)
        ]
        largest[layer] = np.max(found, axis=0).astype(np.float64)
    return largest


def exposed(
    model: onnx.ModelProto, tensors: list[str], sequence: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    """What is in some tensors of a graph."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors)
    return run(probe, sequence[None])


def uneven(config: GaitPartConfig, weights: Weights, smallest: float) -> Weights:
    """The same network with channels of very different sizes."""
    rng = np.random.default_rng(3)
    factors = {
        f"fconv{layer + 1}": (1 / rng.uniform(smallest, 1, config.channels[layer // 2])).tolist()
        for layer in range(2 * len(config.channels) - 1)
    }
    return apply_factors(config, weights, factors)


# Equalisation -------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(config=configs(), seed=st.integers(0, 99))
def test_factors_leave_the_network_as_it_was(config: GaitPartConfig, seed: int) -> None:
    weights, silhouettes = random_weights(config, seed), random_silhouettes(1, 4, seed)
    rng = np.random.default_rng(seed)
    factors = {
        f"fconv{layer + 1}": np.exp(rng.uniform(-3, 3, config.channels[layer // 2])).tolist()
        for layer in range(2 * len(config.channels) - 1)
    }
    (before,) = run(build_graph(config, weights), silhouettes)
    (after,) = run(build_graph(config, apply_factors(config, weights, factors)), silhouettes)
    assert relative_error(after, before) < 1e-5


def test_factors_leave_the_given_weights_alone() -> None:
    weights = random_weights(SMALL, 0)
    copies = {name: array.copy() for name, array in weights.items()}
    apply_factors(SMALL, weights, {"fconv2": [0.5] * 4})
    assert all((weights[name] == copies[name]).all() for name in copies)


def test_equalized_channels_are_equally_large() -> None:
    weights = uneven(SMALL, random_weights(SMALL, 1), 0.25)
    before = channel_ranges(SMALL, weights)
    factors = equalize(SMALL, weights, SEQUENCES)
    after = channel_ranges(SMALL, apply_factors(SMALL, weights, factors))
    assert sorted(factors) == [f"fconv{number}" for number in range(1, 6)]
    for layer, ranges in after.items():
        assert before[layer].max() / before[layer].min() > 1.5, "nothing to equalise"
        # But for channels that are all but silent: the least of a random network's.
        wanted = np.minimum(before[layer] * LARGEST_GAIN, before[layer].max())
        np.testing.assert_allclose(ranges, wanted, rtol=1e-5)
        assert (wanted == before[layer].max()).mean() > 0.8


def test_equalizing_twice_is_equalizing_once() -> None:
    weights = random_weights(SMALL, 1)
    once = apply_factors(SMALL, weights, equalize(SMALL, weights, SEQUENCES))
    for factors in equalize(SMALL, once, SEQUENCES).values():
        np.testing.assert_allclose(factors, 1, rtol=1e-5)


def test_a_channel_that_is_all_but_silent_is_not_blown_up() -> None:
    weights = random_weights(SMALL, 2)
    weights["frame.2"][3] *= 1e-4
    weights["frame.2"][5] = 0
    factors = equalize(SMALL, weights, SEQUENCES)["fconv3"]
    assert factors[3] == 1 / LARGEST_GAIN
    assert factors[5] == 1
    assert max(factors) == 1


def test_equalizing_brings_int8_closer_to_fp32() -> None:
    weights, silhouettes = uneven(SMALL, random_weights(SMALL, 4), 0.1), np.stack([SEQUENCES[0]])
    (exact,) = run(build_graph(SMALL, weights), silhouettes)
    errors = []
    for each in (weights, apply_factors(SMALL, weights, equalize(SMALL, weights, SEQUENCES))):
        scales = tuple((layer, top.max() / 127) for layer, top in channel_ranges(SMALL, each).items())
        (found,) = run(build_graph(SMALL, each, Plan(scales=scales)), silhouettes)
        errors.append(np.linalg.norm(found - exact))
    assert errors[1] < 0.6 * errors[0]


# Bias correction ----------------------------------------------------------------------------------


def mean_outputs(model: onnx.ModelProto) -> dict[str, NDArray[np.float64]]:
    """Layer -> the mean of each of its output channels before the activation, in SEQUENCES."""
    read = {node.name: node.input[0] for node in model.graph.node if node.op_type == "LeakyRelu"}
    layers = layer_names(SMALL)
    tensors = [read[f"{layer}.relu"] if layer.startswith("fconv") else layer for layer in layers[:-1]]
    means = [
        [each.astype(np.float64).mean(axis=(0, 2, 3) if each.ndim == 4 else 0).ravel() for each in found]
        for found in (exposed(model, [*tensors, "embeddings"], sequence) for sequence in SEQUENCES)
    ]
    return {
        layer: np.mean(each, axis=0) for layer, each in zip(layers, zip(*means, strict=True), strict=True)
    }


@pytest.mark.parametrize("floating", [(), ("fconv1", "fconv4", "mtb1.squeeze", "fc")])
def test_corrected_layers_have_the_means_of_fp32(floating: tuple[str, ...]) -> None:
    """In the final graph all of them at once: each was measured with the biases of those before it."""
    weights = random_weights(SMALL, 5)
    # A quarter of the range is clipped away, so that there is a shift to correct.
    calibration = clipped(weights, 0.75, floating)
    biases = correct_biases(SMALL, weights, calibration, SEQUENCES)
    quantised = [layer for layer in layer_names(SMALL) if layer not in floating]
    assert list(biases) == quantised
    plan = Plan(scales=calibration.scales())
    exact, plain = build_graph(SMALL, weights), build_graph(SMALL, weights, plan)
    corrected = build_graph(
        SMALL, weights, plan, {layer: np.array(bias, np.float32) for layer, bias in biases.items()}
    )
    wanted, shifted, found = (mean_outputs(model) for model in (exact, plain, corrected))
    for layer in quantised:
        size = np.abs(wanted[layer]).max()
        assert np.abs(shifted[layer] - wanted[layer]).max() > 1e-3 * size, f"{layer} is not shifted"
        assert np.abs(found[layer] - wanted[layer]).max() < 1e-4 * size, layer


def test_biases_are_of_the_equalized_network() -> None:
    weights = random_weights(SMALL, 6)
    factors = equalize(SMALL, weights, SEQUENCES)
    equal = apply_factors(SMALL, weights, factors)
    ranges = dict.fromkeys(layer_names(SMALL), 1.0) | {"fconv1": 255.0}
    with_factors = make(weights, ranges, factors=factors)
    without = make(equal, ranges)
    assert correct_biases(SMALL, weights, with_factors, SEQUENCES) == correct_biases(
        SMALL, equal, without, SEQUENCES
    )


def test_progress_counts_every_run() -> None:
    weights, seen = random_weights(SMALL, 5), []
    found = clipped(weights, 1, tuple(layer_names(SMALL)[2:]))
    correct_biases(SMALL, weights, found, SEQUENCES, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 9) for done in range(1, 10)]


def make(weights: Weights, ranges: dict[str, float], **fields: Any) -> Calibration:
    return Calibration(fingerprint(SMALL, weights), "0" * 64, "minmax", 3, ranges, **fields)


def clipped(weights: Weights, share: float, floating: tuple[str, ...]) -> Calibration:
    """Ranges of SEQUENCES times a share, but for the silhouettes'."""
    probe, largest = Probe(SMALL, weights, 1), {"fconv1": 255.0 / share}
    for sequence in SEQUENCES:
        found = probe.run(sequence[None])
        for layer, tensors in probe.inputs.items():
            top = max(float(np.abs(found[tensor]).max()) for tensor in tensors)
            largest[layer] = max(largest.get(layer, 0.0), top)
    ranges = {layer: share * value for layer, value in largest.items()}
    return make(weights, ranges, floating=floating)


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"fconv6": [1.0] * 12}, "fconv6.*fconv1, fconv2, fconv3, fconv4, fconv5"),
        ({"fc": [1.0] * 8}, "to fc"),
        ({"fconv2": [1.0] * 3}, "fconv2 must be 4 numbers"),
        ({"fconv2": [1.0, 1.0, 0.0, 1.0]}, "above 0"),
        ({"fconv2": [1.0, 1.0, float("nan"), 1.0]}, "above 0"),
    ],
)
def test_factors_that_fit_no_network_are_refused(factors: dict[str, list[float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        apply_factors(SMALL, random_weights(SMALL, 0), factors)


def test_nothing_is_corrected_without_silhouettes() -> None:
    weights = random_weights(SMALL, 0)
    with pytest.raises(InputError, match="no sequences"):
        equalize(SMALL, weights, [])
    with pytest.raises(InputError, match="no sequences"):
        correct_biases(SMALL, weights, clipped(weights, 1, ()), [])


def test_a_calibration_of_other_weights_is_refused() -> None:
    found = clipped(random_weights(SMALL, 0), 1, ())
    with pytest.raises(InputError, match="of other weights"):
        correct_biases(SMALL, random_weights(SMALL, 1), found, SEQUENCES)
