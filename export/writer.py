"""Collects the nodes and constants of one graph, in one precision; knows no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import InputError

if TYPE_CHECKING:
    from onnx import FunctionProto, TensorProto

    from gaitedge.export.plan import Plan

__all__ = ["PLUGIN_DOMAIN", "Writer"]

PLUGIN_DOMAIN = "gaitedge"
"""ONNX domain and TensorRT namespace of the plugin nodes."""

_LEVELS = 127  # of int8 on each side of zero: symmetric, -128 is not used
_LARGEST = {"fp16": 65504.0, "bf16": 3.3895e38}


class Writer:
    """One graph, or the body of one function, as it is being written.

    Every tensor is named after the node that makes it, and every node after its block.
    """

    def __init__(self, plan: Plan, *, in_function: bool = False) -> None:
        self.nodes: list[Any] = []
        self.constants: list[TensorProto] = []
        self.functions: list[FunctionProto] = []
        self._plan = plan
        self._scales = {} if in_function else dict(plan.scales)
        self._in_function = in_function
        self._known: set[str] = set()

    @property
    def float_type(self) -> int:
        """The ONNX type of the plan's weights and activations."""
        from onnx import TensorProto

        types = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
        return int(types[self._plan.precision])

    # Nodes ----------------------------------------------------------------------------------------

    def add(self, op: str, *inputs: str, name: str, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node; returns its output's name, or a list of them where there are several."""
        from onnx import helper

        names = [name] if outputs == 1 else [f"{name}.{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return names[0] if outputs == 1 else names

    def conv(
        self,
        x: str,
        weight: str,
        kernel: tuple[int, int],
        pads: tuple[int, int],
        *,
        name: str,
        group: int = 1,
    ) -> str:
        """A convolution with `pads` rows and columns of zeros on each side.

        The kernel's size is written out: TensorRT 8.6 does not read it off a weight that was int8.
        """
        pad = [*pads, *pads]
        return str(self.add("Conv", x, weight, name=name, kernel_shape=[*kernel], pads=pad, group=group))

    def split(self, x: str, sizes: list[int], axis: int, *, name: str) -> list[str]:
        """Cut a tensor into pieces along an axis."""
        if len(sizes) == 1:
            return [x]
        return list(self.add("Split", x, self.shape(*sizes), name=name, outputs=len(sizes), axis=axis))

    def reduce(self, op: str, x: str, axes: list[int], *, name: str) -> str:
        """A reduction that drops its axes. They are an attribute up to opset 17, an input from 18 on."""
        if self._plan.opset < 18:
            return str(self.add(op, x, name=name, axes=axes, keepdims=0))
        return str(self.add(op, x, self.shape(*axes), name=name, keepdims=0))

    def plugin(
        self,
        op: str,
        inputs: Mapping[str, str],
        body: Callable[[Writer], str],
        *,
        name: str,
        **attributes: Any,
    ) -> str:
        """One node for what `body` writes: a plugin in TensorRT, a function of the model elsewhere.

        inputs: the function's names of its inputs -> tensors; body: writes the function and returns its
        output. Each node has a function, and for that a domain, of its own, since its sizes are its own.
        """
        from onnx import helper

        inner = Writer(self._plan, in_function=True)
        output = body(inner)
        attributes = {**attributes, "plugin_version": "1", "plugin_namespace": PLUGIN_DOMAIN}
        domain = f"{PLUGIN_DOMAIN}.{name}"
        self.functions.append(
            helper.make_function(
                domain,
                op,
                list(inputs),
                [output],
                inner.nodes,
                [helper.make_opsetid("", self._plan.opset)],
                list(attributes),
            )
        )
        return str(self.add(op, *inputs.values(), name=name, domain=domain, **attributes))

    # Constants ------------------------------------------------------------------------------------

    def shape(self, *sizes: int) -> str:
        """A constant list of integers: a target shape, axes, row numbers or split sizes."""
        return self._constant("shape." + "x".join(map(str, sizes)), np.asarray(sizes, dtype=np.int64))

    def weight(self, name: str, array: NDArray[np.float32], *, layer: str, channels: int | None) -> str:
        """A weight in the plan's type. Where its layer has a scale it goes through int8, with a scale for
        each index of the axis `channels`, or with one.

        Raises InputError where a value is beyond the type.
        """
        weight = self._number(name, array)
        if layer not in self._scales:
            return weight
        others = tuple(axis for axis in range(array.ndim) if axis != channels)
        largest = np.abs(array).max(axis=None if channels is None else others)
        return self._through_int8(weight, largest / np.float32(_LEVELS), name, channels)

    def activation(self, x: str, layer: str, name: str) -> str:
        """The input of a layer: through int8 where that has a scale, else as it is.

        name: of the node that reads it; several of one layer share its scale.
        """
        if layer not in self._scales:
            return x
        return self._through_int8(x, np.float32(self._scales[layer]), f"{name}.input", None)

    def _through_int8(
        self, x: str, scale: NDArray[np.float32] | np.float32, name: str, axis: int | None
    ) -> str:
        """Quantise and dequantise: what TensorRT takes for the order to compute in int8. The zero-point,
        always zero, is written out: TensorRT 8.6 demands it."""
        # A weight that is all zeros has no scale of its own; any does, but 0.
        small = np.finfo(np.float16 if self._plan.precision == "fp16" else np.float32).smallest_subnormal
        scale = np.asarray(np.maximum(scale, np.float32(small)), dtype=np.float32)
        zero = self._constant(
            "int8.zero" + "".join(f".{n}" for n in scale.shape), np.zeros(scale.shape, np.int8)
        )
        inputs = (self._number(f"{name}.scale", scale), zero)
        place = {} if axis is None else {"axis": axis}
        x = self.add("QuantizeLinear", x, *inputs, name=f"{name}.quantize", **place)
        return str(self.add("DequantizeLinear", x, *inputs, name=f"{name}.dequantize", **place))

    def _number(self, name: str, array: NDArray[np.float32]) -> str:
        """A constant in the plan's type, rounded to the nearest. Raises InputError beyond its range."""
        from onnx import helper

        array = np.asarray(array, dtype=np.float32)
        if self._plan.precision == "fp32":
            return self._constant(name, array)
        if (largest := np.abs(array).max()) > _LARGEST[self._plan.precision]:
            raise InputError(f"{name} holds {largest:.3g}, beyond {self._plan.precision}; export it in fp32")
        if self._plan.precision == "fp16":
            return self._constant(name, array.astype(np.float16))
        bits = array.view(np.uint32)  # of which bfloat16 is the upper half
        data = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
        return self._keep(name, helper.make_tensor(name, self.float_type, array.shape, data, raw=True))

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        from onnx import numpy_helper

        return self._keep(name, numpy_helper.from_array(np.asarray(array, order="C"), name))

    def _keep(self, name: str, tensor: TensorProto) -> str:
        """Add a constant; one that is already there under this name is used again."""
        if name not in self._known:
            self._known.add(name)
            if self._in_function:
                self.add("Constant", name=name, value=tensor)
            else:
                self.constants.append(tensor)
        return name
