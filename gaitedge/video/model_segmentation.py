"""People cut out by a segmentation model in ONNX that the user brings; its contract is in docs/video.md.

The input is one image, float32 [1, 3, height, width], RGB, 0 to 1; the output either one mask, or boxes,
scores and masks of what was found. OpenVINO runs it where it is installed, else ONNX Runtime.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import InputError, MissingPackage, one_line, require
from gaitedge.machine.cpu import usable_cores
from gaitedge.video.segmentation import check_image

__all__ = ["ModelSegmenter"]

Outputs = Mapping[str, NDArray[Any]]
_FOUND = ("boxes", "scores", "masks")
_STRIDE = 32  # a model of any input size is given a multiple of this
_WHY = "cutting people out with a model"


class ModelSegmenter:
    """People in any video, also of a camera that moves. Not safe for several threads at once."""

    def __init__(
        self,
        path: str | Path,
        threshold: float = 0.5,
        longest: int = 640,
        engine: str = "auto",
        threads: int | None = None,
    ) -> None:
        """path: the model; threshold: the probability of a pixel, and the score of a person, at least.

        longest: the side, in pixels, that an image is made to have for a model that takes any size.
        engine: "auto", "openvino" or "onnxruntime"; threads: of it; None uses every core. Raises InputError
        where there is no such model, it is not readable, or it does not keep to the contract;
        MissingPackage where neither engine is installed.
        """
        self.path, self.threshold, self.longest = Path(path), threshold, longest
        if not 0 < threshold < 1:
            raise InputError(f"a threshold must lie between 0 and 1, not be {threshold}")
        self._cv2 = require("cv2", _WHY)
        self._about = _Contract(self.path)
        self.engine, self._run = _open(self.path, engine, threads or usable_cores())
        self._logits = self._about.output == "logits"

    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image BGR [height, width, 3] to a mask [height, width]: 255 where people are, else 0.

        Raises InputError for what is no such image, and where the outputs' shapes are not the contract's.
        """
        height, width = check_image(image).shape[:2]
        tensor, used = self._input(image)
        outputs = self._run(tensor)
        size = (tensor.shape[2], tensor.shape[3])
        sure = self._of_found(outputs, size) if self._about.finds else self._of_mask(outputs, size)
        # Only the part that shows the image, at the image's size.
        grown = self._cv2.resize(sure[: used[0], : used[1]], (width, height))
        mask: NDArray[np.uint8] = np.where(grown >= self.threshold, np.uint8(255), np.uint8(0))
        return mask

    def _input(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], tuple[int, int]]:
        """The model's input, and how many of its rows and columns the image has: the rest is black."""
        cv2, about = self._cv2, self._about
        height, width = image.shape[:2]
        if about.height and about.width:
            full = (about.height, about.width)
            scale = min(about.height / height, about.width / width)
        else:
            scale = min(1.0, self.longest / max(height, width))
            full = (0, 0)
        used = (max(1, round(height * scale)), max(1, round(width * scale)))
        if not full[0]:
            full = (-(-used[0] // _STRIDE) * _STRIDE, -(-used[1] // _STRIDE) * _STRIDE)
        small = cv2.resize(image, (used[1], used[0]), interpolation=cv2.INTER_AREA)
        values = cv2.cvtColor(small, cv2.COLOR_BGR2RGB).astype(np.float32) / 255
        values = (values - about.mean) / about.std
        tensor = np.zeros((1, 3, *full), np.float32)
        tensor[0, :, : used[0], : used[1]] = values.transpose(2, 0, 1)
        return tensor, used

    def _of_mask(self, outputs: Outputs, size: tuple[int, int]) -> NDArray[np.float32]:
        """The probabilities of one mask, at the input's size."""
        (mask,) = outputs.values()
        if mask.ndim not in (2, 3, 4) or mask.size != mask.shape[-1] * mask.shape[-2] or not mask.size:
            raise InputError(f"{self.path}: its mask must be [1, 1, height, width], not {list(mask.shape)}")
        return self._grown(mask.reshape(mask.shape[-2:]), size)

    def _of_found(self, outputs: Outputs, size: tuple[int, int]) -> NDArray[np.float32]:
        """The highest probability over all people that were found, at the input's size."""
        boxes, scores, masks = (np.asarray(outputs[name]) for name in _FOUND)
        count = scores.size
        fits = boxes.size == 4 * count and masks.size and masks.shape[-3 if masks.ndim == 3 else 0] == count
        if count and not (fits and masks.ndim in (3, 4)):
            shapes = ", ".join(f"{name} {list(outputs[name].shape)}" for name in _FOUND)
            raise InputError(
                f"{self.path}: must give boxes [n, 4], scores [n], masks [n, h, w], not {shapes}"
            )
        sure = np.zeros(size, np.float32)
        wanted = scores.reshape(count) >= self.threshold
        if "labels" in outputs:
            wanted &= np.asarray(outputs["labels"]).reshape(count) == self._about.person
        for number in np.flatnonzero(wanted):
            left, top, right, bottom = boxes.reshape(count, 4)[number]
            rows = slice(max(0, int(np.floor(top))), max(0, int(np.ceil(bottom))))
            columns = slice(max(0, int(np.floor(left))), max(0, int(np.ceil(right))))
            mask = self._grown(masks[number].reshape(masks.shape[-2:]), size)
            sure[rows, columns] = np.maximum(sure[rows, columns], mask[rows, columns])
        return sure

    def _grown(self, mask: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
        """A mask as probabilities, at this height and width."""
        values: NDArray[np.float32] = mask.astype(np.float32)
        if self._about.output is None and not self._logits:  # nobody said: the first one outside 0 to 1 does
            self._logits = bool(values.min() < 0 or values.max() > 1)
        if self._logits:
            values = np.float32(1) / (np.float32(1) + np.exp(-np.clip(values, -30, 30)))
        if values.shape != size:
            values = self._cv2.resize(values, size[::-1])
        return values


class _Contract:
    """What a model says of itself."""

    def __init__(self, path: Path) -> None:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        if not path.is_file():
            raise InputError(f"no segmentation model at {path}: give the path of an ONNX file")
        try:
            model = onnx.load(path, load_external_data=False)
        except DecodeError:
            raise InputError(f"{path} is no ONNX model") from None
        given = {entry.key: entry.value for entry in model.metadata_props}
        held = {tensor.name for tensor in model.graph.initializer}
        inputs = [port for port in model.graph.input if port.name not in held]
        shape = [
            [axis.dim_value for axis in port.type.tensor_type.shape.dim]  # 0 where it is free
            for port in inputs
        ]
        floats = all(port.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for port in inputs)
        fits = len(shape) == 1 and len(shape[0]) == 4 and shape[0][0] in (0, 1) and shape[0][1] in (0, 3)
        if not (fits and floats):
            found = ", ".join(f"{port.name} {axes}" for port, axes in zip(inputs, shape, strict=True))
            raise InputError(
                f"{path}: a segmentation model takes one image, float32 [1, 3, height, width], not "
                f"{found or 'nothing'}"
            )
        self.height, self.width = shape[0][2:]
        names = [port.name for port in model.graph.output]
        self.finds = set(_FOUND) <= set(names)
        """Whether it gives boxes, scores and masks, not one mask."""
        if not self.finds and len(names) != 1:
            raise InputError(
                f"{path}: a segmentation model gives one mask, or boxes, scores and masks by these names, "
                f"not {', '.join(names)}"
            )
        self.mean, self.std = _three(path, given, "mean", 0.0), _three(path, given, "std", 1.0)
        if not (self.std > 0).all():
            raise InputError(f"{path}: its std must be more than 0, not {given['std']}")
        self.output = given.get("output")
        if self.output not in (None, "logits", "probabilities"):
            raise InputError(f"{path}: its output must be logits or probabilities, not {self.output}")
        try:
            self.person = int(given.get("person", "1"))
        except ValueError:
            raise InputError(f"{path}: its person must be a class's number, not {given['person']}") from None


def _three(path: Path, given: Mapping[str, str], name: str, default: float) -> NDArray[np.float32]:
    """A value for each of red, green and blue from a model's metadata, as in "[0.485, 0.456, 0.406]"."""
    if name not in given:
        return np.full(3, default, np.float32)
    try:
        values = np.array(json.loads(given[name]), np.float32)
    except ValueError:
        values = np.empty(0, np.float32)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise InputError(
            f"{path}: its {name} must be three numbers, as in [0.5, 0.5, 0.5], not {given[name]}"
        )
    return values


def _open(
    path: Path, engine: str, threads: int
) -> tuple[str, Callable[[NDArray[np.float32]], dict[str, NDArray[Any]]]]:
    """The name of the engine that is taken, and a function from the input to the outputs by their names."""
    if engine not in ("auto", "openvino", "onnxruntime"):
        raise InputError(f"unknown engine {engine!r} of a segmentation model: auto, openvino or onnxruntime")
    if engine == "auto":
        usable = [name for name in ("openvino", "onnxruntime") if importlib.util.find_spec(name)]
        if not usable:
            raise MissingPackage(
                f"{_WHY} needs openvino or onnxruntime, none of which is installed; "
                "run: pip install 'gaitedge[cpu]'"
            )
        engine = usable[0]
    return engine, (_openvino if engine == "openvino" else _onnxruntime)(path, threads)


def _openvino(path: Path, threads: int) -> Callable[[NDArray[np.float32]], dict[str, NDArray[Any]]]:
    from gaitedge.engines.openvino import shared_core

    require("openvino", _WHY)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    try:
        compiled = shared_core().compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        raise InputError(f"{path}: OpenVINO cannot use it: {one_line(error)}") from None
    request = compiled.create_infer_request()
    names = [port.any_name for port in compiled.outputs]

    def run(tensor: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        request.infer([tensor], share_inputs=True)
        return {name: request.get_output_tensor(number).data for number, name in enumerate(names)}

    return run


def _onnxruntime(path: Path, threads: int) -> Callable[[NDArray[np.float32]], dict[str, NDArray[Any]]]:
    runtime = require("onnxruntime", _WHY)
    failures = require("onnxruntime.capi.onnxruntime_pybind11_state", _WHY)
    runtime.disable_telemetry_events()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (
        failures.Fail,
        failures.InvalidArgument,
        failures.InvalidGraph,
        failures.InvalidProtobuf,
        failures.NotImplemented,
        failures.RuntimeException,
    ) as error:
        raise InputError(f"{path}: ONNX Runtime cannot use it: {one_line(error)}") from None
    (port,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    return lambda tensor: dict(zip(names, session.run(names, {port.name: tensor}), strict=True))
