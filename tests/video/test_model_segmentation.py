"""Small models that see people in what is red: made here, and run by each engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gaitedge.errors import InputError
from gaitedge.video.model_segmentation import ModelSegmenter
from gaitedge.video.segmentation import open_segmenter

ENGINES = ["openvino", "onnxruntime"]
FLOAT = TensorProto.FLOAT


def save(
    path: Path,
    nodes: list[Any],
    outputs: list[Any],
    constants: dict[str, NDArray[Any]],
    shape: tuple[int | str, ...] = (1, 3, "h", "w"),
    **metadata: str,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "people",
        [helper.make_tensor_value_info("image", FLOAT, shape)],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=False), path)
    return path


def of_red(path: Path, *, logits: bool = False, **options: Any) -> Path:
    """Red less green, between 0 and 1, or as logits 20 times (that less a half)."""
    weight = np.array([1.0, -1.0, 0.0], np.float32).reshape(1, 3, 1, 1)
    nodes = [helper.make_node("Conv", ["image", "weight"], ["raw"])]
    constants = {"weight": weight, "low": np.float32(0), "high": np.float32(1)}
    nodes.append(helper.make_node("Clip", ["raw", "low", "high"], ["sure"]))
    if logits:
        constants |= {"half": np.float32(0.5), "twenty": np.float32(20)}
        nodes.append(helper.make_node("Sub", ["sure", "half"], ["less"]))
        nodes.append(helper.make_node("Mul", ["less", "twenty"], ["mask"]))
    else:
        nodes.append(helper.make_node("Identity", ["sure"], ["mask"]))
    output = helper.make_tensor_value_info("mask", FLOAT, None)
    return save(path, nodes, [output], constants, **options)


def of_boxes(path: Path, scores: list[float], labels: list[int] | None = None) -> Path:
    """Two given boxes, and a mask of everything for each."""
    boxes = np.array([[8, 4, 24, 44], [40, 4, 56, 44]], np.float32)
    values: dict[str, NDArray[Any]] = {
        "boxes_": boxes,
        "scores_": np.array(scores, np.float32),
        "masks_": np.ones((2, 1, 48, 64), np.float32),
    }
    if labels is not None:
        values["labels_"] = np.array(labels, np.int64)
    nodes = [helper.make_node("Identity", [name], [name[:-1]]) for name in values if name != "scores_"]
    # The image has its part in it, or an engine would have nothing to run.
    nodes.append(helper.make_node("ReduceMax", ["image"], ["brightest"], keepdims=0))
    nodes.append(helper.make_node("Mul", ["scores_", "brightest"], ["scores"]))
    outputs = [
        helper.make_tensor_value_info(
            name[:-1], TensorProto.INT64 if name == "labels_" else FLOAT, list(value.shape)
        )
        for name, value in values.items()
    ]
    return save(path, nodes, outputs, values, shape=(1, 3, 48, 64))


def picture(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A grey image with a red person in it (BGR), and where the person is."""
    image = np.full((height, width, 3), 120, np.uint8)
    person = np.zeros((height, width), np.bool_)
    person[height // 4 : height * 3 // 4, width // 2 : width * 5 // 8] = True
    image[person] = (10, 10, 250)
    return image, person


def overlap(mask: NDArray[np.uint8], person: NDArray[np.bool_]) -> float:
    return float(((mask > 0) & person).sum() / ((mask > 0) | person).sum())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, "h", "w"), ("n", 3, 96, 96), (1, 3, 64, 160)])
@pytest.mark.parametrize("size", [(120, 200), (900, 500)])
def test_one_mask_of_any_size(
    tmp_path: Path, engine: str, logits: bool, shape: tuple[int | str, ...], size: tuple[int, int]
) -> None:
    model = of_red(tmp_path / "red.onnx", logits=logits, shape=shape)
    segmenter = ModelSegmenter(model, engine=engine, threads=1)
    image, person = picture(*size)
    mask = segmenter.segment(image)
    assert (mask.shape, mask.dtype) == (size, np.uint8)
    assert set(np.unique(mask)) == {0, 255}
    assert overlap(mask, person) > (0.75 if "h" not in shape else 0.9)
    assert segmenter.engine == engine


@pytest.mark.parametrize("engine", ENGINES)
def test_boxes_scores_and_masks(tmp_path: Path, engine: str) -> None:
    segmenter = ModelSegmenter(of_boxes(tmp_path / "found.onnx", [0.9, 0.3]), engine=engine, threads=1)
    mask = segmenter.segment(np.full((96, 128, 3), 255, np.uint8))  # twice the model's size
    expected = np.zeros((96, 128), np.bool_)
    expected[8:88, 16:48] = True
    assert overlap(mask, expected) > 0.93
    assert not mask[:, 60:].any()


def test_of_other_classes_nothing_is_taken(tmp_path: Path) -> None:
    model = of_boxes(tmp_path / "found.onnx", [0.9, 0.9], labels=[17, 1])
    mask = ModelSegmenter(model, engine="onnxruntime").segment(np.full((48, 64, 3), 255, np.uint8))
    assert mask[10:40, 45:50].all()
    assert not mask[:, :30].any()


def test_what_the_model_says_of_its_input_is_kept(tmp_path: Path) -> None:
    """With a mean of 1 for red, nothing is red."""
    image, person = picture(96, 96)
    for mean, seen in (([0.0, 0.0, 0.0], True), ([1.0, 0.0, 0.0], False)):
        model = of_red(tmp_path / "red.onnx", mean=json.dumps(mean), std="[1, 1, 1]", output="probabilities")
        assert ModelSegmenter(model, threads=1).segment(image)[person].all() == seen


def test_what_the_model_says_of_its_output_is_kept(tmp_path: Path) -> None:
    """0 is no probability, and as a logit one half."""
    image = np.full((32, 32, 3), 120, np.uint8)
    for output, seen in (("probabilities", False), ("logits", True)):
        segmenter = ModelSegmenter(of_red(tmp_path / "red.onnx", output=output), threads=1)
        assert segmenter.segment(image).all() == seen


@pytest.mark.parametrize(
    ("metadata", "what"),
    [
        ({"mean": "0.5"}, "its mean must be three numbers"),
        ({"mean": "[0.5, 0.5]"}, "its mean must be three numbers"),
        ({"mean": "half"}, "its mean must be three numbers"),
        ({"std": "[1, 0, 1]"}, "its std must be more than 0"),
        ({"output": "sigmoid"}, "logits or probabilities, not sigmoid"),
        ({"person": "somebody"}, "must be a class's number, not somebody"),
    ],
)
def test_what_a_model_may_not_say(tmp_path: Path, metadata: dict[str, str], what: str) -> None:
    with pytest.raises(InputError, match=what):
        ModelSegmenter(of_red(tmp_path / "red.onnx", **metadata))


@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (4, 3, 64, 64), (1, 3, 64)])
def test_a_model_of_another_input(tmp_path: Path, shape: tuple[int, ...]) -> None:
    output = helper.make_tensor_value_info("mask", FLOAT, None)
    model = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["image"], ["mask"])], [output], {}, shape)
    with pytest.raises(InputError, match="takes one image, float32"):
        ModelSegmenter(model)


def test_a_model_of_other_outputs(tmp_path: Path) -> None:
    names = ["mask", "depth"]
    nodes = [helper.make_node("Relu", ["image"], [name]) for name in names]
    outputs = [helper.make_tensor_value_info(name, FLOAT, None) for name in names]
    with pytest.raises(
        InputError, match="one mask, or boxes, scores and masks by these names, not mask, depth"
    ):
        ModelSegmenter(save(tmp_path / "m.onnx", nodes, outputs, {}))
    colours = save(tmp_path / "c.onnx", nodes[:1], outputs[:1], {})  # three planes, no mask
    with pytest.raises(InputError, match=r"its mask must be \[1, 1, height, width\], not \[1, 3, 32, 32\]"):
        ModelSegmenter(colours).segment(np.zeros((32, 32, 3), np.uint8))


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model at all, this")
    with pytest.raises(InputError, match=r"x\.onnx is no ONNX model"):
        open_segmenter(tmp_path / "x.onnx")
    with pytest.raises(InputError, match="unknown engine 'tensorrt'"):
        ModelSegmenter(of_red(tmp_path / "red.onnx"), engine="tensorrt")
    with pytest.raises(InputError, match="between 0 and 1, not be 2"):
        ModelSegmenter(of_red(tmp_path / "red.onnx"), threshold=2)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_cannot_use_a_model_says_so_in_one_line(tmp_path: Path, engine: str) -> None:
    output = helper.make_tensor_value_info("mask", FLOAT, [1, 1, 8, 8])
    node = helper.make_node("NoSuchLayer", ["image"], ["mask"], domain="nobody.knows")
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("image", FLOAT, [1, 3, 8, 8])], [output]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nobody.knows", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(InputError, match="cannot use it") as raised:
        ModelSegmenter(tmp_path / "m.onnx", engine=engine)
    assert "\n" not in str(raised.value)
