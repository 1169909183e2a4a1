"""What is read off the inspector's JSON.

The samples are modelled on NVIDIA's documentation of IEngineInspector, on the migration guide from 10 to
11, and on the formats that NVIDIA's trt-engine-explorer knows. None is a recording of a GPU's engine.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from gaitedge.engines.tensorrt_inspector import Layer, read_layers
from gaitedge.errors import MachineError


def layer(name: str, inputs: list[Any], outputs: list[Any], metadata: str | None = None) -> dict[str, Any]:
    """A layer as the inspector tells it; tensors are given by their format."""
    told = {
        "Name": name,
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "in", "Location": "Device", "Dimensions": [1, 2], **each} for each in inputs],
        "Outputs": [{"Name": "out", "Location": "Device", "Dimensions": [1, 2], **each} for each in outputs],
        "TacticName": "sm87_xmma_fprop",
    }
    return told if metadata is None else {**told, "Metadata": metadata}


def old(text: str) -> dict[str, str]:
    """A tensor's format and type as 8.6 and 10 tell them."""
    return {"Format/Datatype": text}


def new(kind: str, layout: str = "Row major linear") -> dict[str, str]:
    """The same as 11 tells them."""
    return {"Format": layout, "Datatype": kind}


def precision(*tensors: dict[str, str]) -> str | None:
    inputs, outputs = list(tensors[:-1]), list(tensors[-1:])
    (found,) = read_layers(json.dumps({"Layers": [layer("a", inputs, outputs)]}))
    return found.precision


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Row major linear FP32", "fp32"),
        ("Row major linear FP16 format", "fp16"),
        ("Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("Two wide channel vectorized row major FP16 format", "fp16"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
        ("Channel major INT8 format where channel % 16 == 0", "int8"),
        ("Row major linear BFloat16 format", "bf16"),
        ("Row major linear FP8 format", "fp8"),
        ("Half", "fp16"),
        ("Float", "fp32"),
        ("Int8", "int8"),
        ("Row major linear UInt8 format", None),
        ("Row major linear Int32", None),
        ("Int64", None),
        ("N/A due to dynamic shapes", None),
        ("Unknown format", None),
    ],
)
def test_formats_of_8_and_10(text: str, expected: str | None) -> None:
    assert precision(old(text), old(text)) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("Half", "fp16"), ("Float", "fp32"), ("BFloat16", "bf16"), ("Int8", "int8"), ("UInt8", None)],
)
@pytest.mark.parametrize("key", ["Datatype", "DataType"])
def test_types_of_11(kind: str, expected: str | None, key: str) -> None:
    tensor = {"Format": "Channel major", key: kind}
    assert precision(tensor, tensor) == expected


def test_in_11_the_type_counts_more_than_the_format() -> None:
    assert precision(new("Half", "Row major linear FP32 format (kLINEAR)"), new("Half")) == "fp16"


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        # An INT8 convolution that hands on FP16 computes in INT8.
        ([old("Int8"), old("Half")], "int8"),
        # The first one reads bytes.
        ([old("UInt8"), old("Half")], "fp16"),
        # Indices before values, as of a gather.
        ([old("Int32"), old("Float"), old("Half")], "fp32"),
        ([old("Half")], "fp16"),
    ],
)
def test_what_a_layer_reads_counts(tensors: list[dict[str, str]], expected: str) -> None:
    assert precision(*tensors) == expected


def test_layers_of_8_name_what_they_put_together() -> None:
    told = layer("fconv1.conv + PWN(fconv1.relu)", [old("Half")], [old("Half")])
    information = json.dumps({"Layers": [told], "Bindings": ["silhouettes", "embeddings"]})
    (found,) = read_layers(information)
    assert found.name == "fconv1.conv + PWN(fconv1.relu)"
    assert {"fconv1.conv", "fconv1.relu"} <= set(found.nodes)


def test_layers_of_10_and_11_have_metadata() -> None:
    metadata = "[ONNX Layer: fconv1.conv]\x1f[ONNX Layer: fconv1.relu | a remark]\x1e[ONNX Layer: hp/max]"
    told = layer("__myl_Conv_myl0_1", [new("Half")], [new("Half")], metadata)
    tensors = [{"Name": "silhouettes", "IOMode": "Input", "DataType": "UInt8"}]
    # Separators are control characters, and come as they are.
    information = json.dumps({"Layers": [told], "I/O Tensors": tensors}, ensure_ascii=False)
    information = information.replace("\\u001f", "\x1f").replace("\\u001e", "\x1e")
    assert "\x1f" in information
    assert read_layers(information) == [
        Layer("__myl_Conv_myl0_1", "fp16", ("fconv1.conv", "fconv1.relu", "hp/max"), "CaskConvolution")
    ]


def test_a_name_that_comes_twice_is_kept_apart() -> None:
    same = layer("a\x1eb", [old("Half")], [old("Half")])
    names = [found.name for found in read_layers(json.dumps({"Layers": [same, same, "c", same]}))]
    assert names == ["a + b", "a + b (2)", "c", "a + b (3)"]


def test_without_details_a_layer_is_a_name() -> None:
    assert read_layers('{"Layers": ["fconv1.conv"]}') == [Layer("fconv1.conv", None, ())]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"Layers": 3}', '{"Layers": [{}]}', '{"Layers": [3]}', "null", "\x00"]
)
def test_what_is_no_information(text: str) -> None:
    with pytest.raises(MachineError, match="TensorRT's engine inspector tells of no layers") as caught:
        read_layers(text)
    assert "\n" not in str(caught.value)
