from __future__ import annotations

import dataclasses
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import run
from hypothesis import given
from hypothesis import strategies as st
from networks import configs, random_silhouettes, random_weights

from gaitedge.calibration.calibration import METHODS, Calibration
from gaitedge.calibration.observers import OBSERVERS
from gaitedge.calibration.tensors import layer_inputs
from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError
from gaitedge.export.graph import Plan, build_graph
from gaitedge.export.plan import layer_names
from gaitedge.weights import fingerprint

PAPER = GaitPartConfig()
SMALL = GaitPartConfig(channels=(4, 8, 12))
HEAD = ("mtb1.squeeze", "mtb1.excite", "mtb2.squeeze", "mtb2.excite", "fc")


def made(config: GaitPartConfig = SMALL, **changes: Any) -> Calibration:
    """A calibration of the weights random_weights(config, 0)."""
    ranges = {layer: 0.5 + number / 3 for number, layer in enumerate(layer_names(config))}
    values: dict[str, Any] = {
        "weights": fingerprint(config, random_weights(config, 0)),
        "data": "cd" * 32,
        "method": "mse",
        "sequences": 500,
        "ranges": {**ranges, "fconv1": 255.0},
        "floating": tuple(layer for layer in ranges if not layer.startswith("fconv")),
        "versions": {"gaitedge": "0.5.0"},
    }
    return Calibration(**{**values, **changes})


def test_every_method_has_an_observer() -> None:
    assert tuple(OBSERVERS) == METHODS


def test_scales_are_the_ranges_over_127_of_what_is_quantised() -> None:
    calibration = made()
    assert dict(calibration.scales()) == {
        f"fconv{layer}": calibration.ranges[f"fconv{layer}"] / 127 for layer in range(1, 7)
    }
    assert dict(made(floating=("fconv1", *HEAD)).scales()).keys() == {f"fconv{n}" for n in range(2, 7)}
    assert dict(made(floating=()).scales()).keys() == {*layer_names(SMALL)}
    assert Plan(scales=calibration.scales()).check(SMALL) is None


# The file -----------------------------------------------------------------------------------------


@given(
    st.dictionaries(st.sampled_from(layer_names(PAPER)), st.floats(0, 1e30, exclude_min=True), min_size=1),
    st.sampled_from(METHODS),
    st.lists(st.floats(-1e30, 1e30)),
)
def test_what_is_written_is_read_back_exactly(
    ranges: dict[str, float], method: str, biases: list[float]
) -> None:
    calibration = made(
        ranges=ranges,
        method=method,
        floating=tuple(ranges)[1:],
        biases={"fconv2": tuple(biases)},
        factors={"fconv1": (0.25, 1e-6)},
    )
    text = calibration.to_json()
    assert Calibration.from_json(text) == calibration
    assert Calibration.from_json(text).scales() == calibration.scales()
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "int8.json"
    made().save(path)
    made(sequences=40).save(path)
    assert Calibration.load(path) == made(sequences=40)
    assert [*tmp_path.iterdir()] == [path]


def test_a_calibration_is_not_changed_by_what_it_was_made_of() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        made().sequences = 3  # type: ignore[misc]
    assert made(floating=[*HEAD], biases={"fc": [1.0]}) == made(floating=HEAD, biases={"fc": (1.0,)})


BAD = {
    "an unknown layer": ({"ranges": {"fconv0": 1.0}}, "no network has a layer 'fconv0'"),
    "another template": ({"ranges": {"mtb3.squeeze": 1.0}}, "no network has a layer 'mtb3.squeeze'"),
    "zero": ({"ranges": {"fc": 0.0}}, "the range of fc must be above 0, not 0.0"),
    "a negative range": ({"ranges": {"fc": -1.0}}, "the range of fc must be above 0, not -1.0"),
    "NaN": ({"ranges": {"fc": math.nan}}, "the range of fc must be above 0, not nan"),
    "infinity": ({"ranges": {"fc": math.inf}}, "the range of fc must be above 0, not inf"),
    "a text": ({"ranges": {"fc": "1"}}, "the range of fc must be above 0, not '1'"),
    "no ranges": ({"ranges": {}}, "it has no ranges"),
    "another method": ({"method": "guess"}, "its method 'guess' is none of minmax, percentile, entropy, mse"),
    "no sequences": ({"sequences": 0}, "sequences must be 1 or more, not 0"),
    "half a sequence": ({"sequences": 1.5}, "sequences must be 1 or more, not 1.5"),
    "no fingerprint": ({"weights": "ab"}, "weights must be a SHA-256 in hexadecimal"),
    "data of no name": ({"data": None}, "data must be a SHA-256 in hexadecimal"),
    "a layer that is not there": (
        {"ranges": {"fconv1": 255.0}, "floating": ("fc",)},
        "fc is to stay in floating point and has no range",
    ),
    "a factor of zero": (
        {"factors": {"fconv2": (1.0, 0.0)}},
        "the factors of fconv2 hold a value that is none",
    ),
    "a bias that is NaN": ({"biases": {"fc": (math.nan,)}}, "the biases of fc hold a value that is none"),
    "a version that is a number": ({"versions": {"gaitedge": 5}}, "its versions must be texts"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_impossible_values_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        made(**changes)
    assert str(caught.value) == f"impossible calibration: {message}"


def altered(**changes: Any) -> bytes:
    return json.dumps({**json.loads(made().to_json()), **changes}).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a calibration: JSONDecodeError"),
        (b"\xff\xfe\x00", "not a calibration: UnicodeDecodeError"),
        (made().to_json().encode()[:-9], "not a calibration: JSONDecodeError"),
        (b"[" * 100_000, "not a calibration: RecursionError"),
        (b"[]", "not a calibration: TypeError"),
        (b"3", "not a calibration: AttributeError"),
        (b"{}", "not a calibration: KeyError: 'format'"),
        (altered(format=2), "its format is 2, this GaitEdge reads 1; calibrate again"),
        (altered(color="red"), "not a calibration: TypeError: .*color"),
        (altered(ranges=[1.0]), "not a calibration: AttributeError"),
        (altered(ranges={"fc": None}), "the range of fc must be above 0, not None"),
        (altered(ranges={"fc": math.nan}), "the range of fc must be above 0, not nan"),
        (altered(ranges={"hp": 1.0}), "no network has a layer 'hp'"),
        (altered(biases={"fc": 3}), "not a calibration: TypeError"),
        (altered(floating=None), "not a calibration: TypeError"),
        (altered(versions=[["a", "b"]]), "not a calibration: AttributeError"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "int8.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        Calibration.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the calibration .*int8.json: No such file"):
        Calibration.load(tmp_path / "int8.json")
    with pytest.raises(InputError, match=r"cannot read the calibration .*: Is a directory"):
        Calibration.load(tmp_path)


# The weights --------------------------------------------------------------------------------------


@given(configs())
def test_a_calibration_fits_its_own_network(config: GaitPartConfig) -> None:
    weights = random_weights(config, 0)
    outputs = {"frame.0": "fconv1", "frame.1": "fconv2"}
    factors = {layer: (1.0,) * config.shapes()[name][0] for name, layer in outputs.items()}
    made(config, factors=factors).check(config, weights)


def test_other_weights_are_refused() -> None:
    other = random_weights(SMALL, 1)
    with pytest.raises(InputError, match=r"it is of other weights: made for [0-9a-f]{12}, these are"):
        made().check(SMALL, other)
    with pytest.raises(InputError, match="of other weights"):
        made().check(PAPER, random_weights(PAPER, 0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranges": {"fconv1": 255.0}, "floating": ()}, "it has no range of fconv2, fconv3"),
        ({"biases": {"fconv7": (1.0,)}}, "it speaks of fconv7; this network has fconv1, .*, fc$"),
        ({"biases": {"fconv2": (1.0,) * 3}}, "the biases of fconv2 must be 4, one an output channel, not 3"),
        ({"factors": {"fconv6": ()}}, "the factors of fconv6 must be 12, one an output channel, not 0"),
        ({"biases": {"fc": (0.0,) * 256}}, "the biases of fc must be 4096, one an output channel, not 256"),
        ({"biases": {"mtb2.squeeze": (0.0,)}}, "the biases of mtb2.squeeze must be 48, .*, not 1"),
        ({"biases": {"mtb2.excite": (0.0,)}}, "the biases of mtb2.excite must be 192, .*, not 1"),
    ],
)
def test_what_does_not_fit_the_network_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(**changes).check(SMALL, random_weights(SMALL, 0))


# TensorRT's cache ---------------------------------------------------------------------------------


def read_cache(text: str) -> dict[str, float]:
    """As TensorRT does: after the header, a name and the bits of a float32, most significant first."""
    entries = {}
    for line in text.splitlines()[1:]:
        name, _, digits = line.rpartition(": ")
        assert len(digits) == 8
        entries[name] = float(np.uint32(int(digits, 16)).view(np.float32))
    return entries


def test_a_cache_in_full() -> None:
    config = GaitPartConfig(channels=(4,), strips=(1, 2), templates=(1,))
    calibration = made(config, ranges={**made(config).ranges, "fconv2": 127.0}, floating=("fc",))
    text = calibration.tensorrt_cache(config, random_weights(config, 0), "8.6.3")
    assert text.splitlines()[:6] == [
        "TRT-8603-EntropyCalibration2",
        f"frames: {struct.pack('>f', 255 / 127).hex()}",
        f"pixels: {struct.pack('>f', 255 / 127).hex()}",
        "fconv2.fold: 3f800000",
        "fconv2.fold.move: 3f800000",
        "fconv2.fold.cut: 3f800000",
    ]
    assert text.endswith("\n")
    assert "tp" not in text


@pytest.mark.parametrize(
    ("version", "header"),
    [("8.6.1", "TRT-8601"), ("8.5.2.2", "TRT-8502"), ("8.4", "TRT-8400"), ("8.5.10", "TRT-8510")],
)
def test_a_cache_bears_the_number_of_its_tensorrt(version: str, header: str) -> None:
    text = made().tensorrt_cache(SMALL, random_weights(SMALL, 0), version)
    assert text.splitlines()[0] == f"{header}-EntropyCalibration2"


@given(configs(), st.booleans())
def test_a_cache_names_tensors_of_the_fp32_graph_with_their_scales(
    config: GaitPartConfig, head: bool
) -> None:
    """And a tensor has the scale of the layer for which its values are meant: never more than the layer reads
    but what a max-pool left away."""
    weights = random_weights(config, 0)
    calibration = made(config, **({"floating": ()} if head else {}))
    entries = read_cache(calibration.tensorrt_cache(config, weights))
    model = build_graph(config, weights)
    made_here = {tensor for node in model.graph.node for tensor in node.output}
    assert entries.keys() <= made_here
    inputs, scales = layer_inputs(model.graph, config), dict(calibration.scales())
    for layer, scale in scales.items():
        for tensor in inputs[layer]:
            shared = [other for other in scales if tensor in inputs[other]]
            assert entries[tensor] in {np.float32(scales[other]) for other in shared}
            assert np.float32(scale) == entries[tensor] or len(shared) > 1
    floating = {tensor for layer in calibration.floating for tensor in inputs[layer]}
    quantised = {tensor for layer in scales for tensor in inputs[layer]}
    assert not entries.keys() & (floating - quantised)


def test_tensors_that_share_a_scale_share_their_values() -> None:
    """Run the graph: each chain of a cache has one largest value, from the LeakyReLU to the convolution."""
    weights = random_weights(SMALL, 0)
    model = build_graph(SMALL, weights)
    entries = read_cache(made(floating=()).tensorrt_cache(SMALL, weights))
    names = [name for name in entries if name not in ("pixels", "frames")]
    for name in names:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    found = dict(zip(names, run(model, random_silhouettes(2, 5, 0), *names), strict=True))
    largest: dict[float, set[float]] = {}
    for name in names:
        largest.setdefault(entries[name], set()).add(float(found[name].max()))
    assert len(largest) >= 9
    assert all(len(values) == 1 for values in largest.values())


def test_what_has_no_cache_is_refused() -> None:
    weights = random_weights(SMALL, 0)
    with pytest.raises(InputError, match=r"TensorRT 10.3 reads no calibration cache: 8.x does, as in 8.6.1"):
        made().tensorrt_cache(SMALL, weights, "10.3")
    with pytest.raises(InputError, match="its ranges are of equalised weights, the FP32 graph's are not"):
        made(factors={"fconv1": (1.0,) * 4}).tensorrt_cache(SMALL, weights)
    with pytest.raises(InputError, match="of other weights"):
        made().tensorrt_cache(SMALL, random_weights(SMALL, 1))
