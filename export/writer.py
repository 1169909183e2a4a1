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

_LARGEST_OF_8_BITS = {"int8": 127, "fp8": 448}  # symmetric: int8's -128 is not used
_LARGEST = {"fp32": 3.4028234e38, "fp16": 65504.0, "bf16": 3.3895e38}


class Writer:
    """One graph, or the body of one function, as it is being written.

    Every tensor is named after the node that makes it, and every node after its block.
    """

    def __init__(
        self,
        plan: Plan,
        biases: Mapping[str, NDArray[np.float32]] | None = None,
        *,
        in_function: bool = False,
    ) -> None:
        self.nodes: list[Any] = []
        self.constants: list[TensorProto] = []
        self.functions: list[FunctionProto] = []
        self._plan = plan
        self._scales = {} if in_function else dict(plan.scales)
        self._biases = biases or {}
        self._in_function = in_function
        self._known: set[str] = set()

    @property
    def float_type(self) -> int:
        """The ONNX type of the plan's weights and activations."""
        from onnx import TensorProto

        types = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
        return int(types[self._plan.precision])

    @property
    def channels_last(self) -> bool:
        """Whether strips are folded as a view of maps whose channels come last."""
        return self._plan.fconv == "fold_nhwc"

    # Nodes ----------------------------------------------------------------------------------------

    def to_plan(self, x: str, name: str) -> str:
        """float32 in the plan's type."""
        return (
            x if self._plan.precision == "fp32" else str(self.add("Cast", x, name=name, to=self.float_type))
        )

    def to_float32(self, x: str, name: str) -> str:
        """A tensor of the plan's type in float32."""
        from onnx import TensorProto

        if self._plan.precision == "fp32":
            return x
        return str(self.add("Cast", x, name=name, to=TensorProto.FLOAT))

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
        bias: str | None = None,
    ) -> str:
        """A convolution with `pads` rows and columns of zeros on each side.

        The kernel's size is written out: TensorRT 8.6 does not read it off a weight that was int8.
        """
        pad, inputs = [*pads, *pads], [x, weight] if bias is None else [x, weight, bias]
        return str(self.add("Conv", *inputs, name=name, kernel_shape=[*kernel], pads=pad, group=group))

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
        """A weight in the plan's type. Where its layer has a scale it goes through eight bits, with a scale
        for each index of the axis `channels`, or with one.

        Raises InputError where a value is beyond the type.
        """
        weight = self._number(name, array)
        if layer not in self._scales:
            return weight
        others = tuple(axis for axis in range(array.ndim) if axis != channels)
        largest = np.abs(array).max(axis=None if channels is None else others)
        return self._through_8_bits(weight, largest / np.float32(self._levels), name, channels)

    def bias(
        self,
        name: str,
        layer: str,
        which: slice = slice(None),
        *,
        shape: tuple[int, ...] = (-1,),
        float32: bool = False,
    ) -> str | None:
        """A layer's bias in the plan's type, or None where it has none. It stays so where the layer is
        quantised: TensorRT adds a float one to what int8 gives, and the others fuse it.

        which: the parts whose biases are taken, of a layer that has them by part; shape: of the constant;
        float32: whatever the plan's type, as plugins take it.
        """
        bias = self._biases.get(layer)
        if bias is None:
            return None
        bias = bias[which].reshape(shape)
        return self._constant(name, bias) if float32 else self._number(name, bias)

    def ratio(self, value: float) -> str:
        """A number in float32, whatever the plan's type."""
        return self._constant(f"number.{value:g}", np.float32(value))

    def packed(self, name: str, data: NDArray[np.uint8]) -> str:
        """What was packed for a kernel, as fp16 numbers of the same bits."""
        return self._constant(name, data.view(np.float16))

    def has_bias(self, layer: str) -> bool:
        """Whether a layer has a bias."""
        return layer in self._biases

    def is_quantised(self, layer: str) -> bool:
        """Whether a layer has a scale."""
        return layer in self._scales

    def activation(self, x: str, layer: str, name: str) -> str:
        """The input of a layer: through eight bits where that has a scale, else as it is.

        name: of the node that reads it; several of one layer share its scale.
        """
        if layer not in self._scales:
            return x
        return self._through_8_bits(x, self._scale(layer), f"{name}.input", None)

    def pixels(self, x: str, name: str) -> str:
        """uint8 as numbers of the plan's type, for a convolution in int8 that reads it as it is: 0 to 255
        is what a scale of 1 gives back. name: of that convolution."""
        inputs = (self._number("pixels.scale", np.float32(1)), self._constant("pixels.zero", np.uint8(0)))
        return str(self.add("DequantizeLinear", x, *inputs, name=f"{name}.input.dequantize"))

    def handed_on(self, x: str, layer: str, following: str, name: str) -> str:
        """What a convolution gives, through the int8 that the layer which follows its LeakyReLU reads, where
        the plan chains the two. Positive values are the same as without it; of the negative ones LeakyReLU
        leaves a hundredth, so that those beyond int8 end a step or so from where they would.

        name: of the convolution.
        """
        if self._plan.placement != "chain" or not {layer, following} <= {*self._scales}:
            return x
        return self._through_8_bits(x, self._scale(following), f"{name}.output", None)

    def standing(self, x: str, name: str) -> str:
        """x, past which OpenVINO moves no scale of int8, where the plan is for it: across a Reshape in which
        channels change their place it fails. To clip at the largest number changes nothing."""
        if self._plan.placement != "chain" or not self._scales:
            return x
        largest = np.float32(_LARGEST[self._plan.precision])
        ends = (self._number("standing.from", -largest), self._number("standing.to", largest))
        return str(self.add("Clip", x, *ends, name=name))

    @property
    def _levels(self) -> int:
        return _LARGEST_OF_8_BITS[self._plan.eight_bits]

    def _scale(self, layer: str) -> NDArray[np.float32]:
        """Of a layer's input in the plan's eight bits; the plan gives that of int8."""
        return np.asarray(self._scales[layer] * (_LARGEST_OF_8_BITS["int8"] / self._levels), np.float32)

    def _through_8_bits(self, x: str, scale: NDArray[np.float32], name: str, axis: int | None) -> str:
        """Quantise and dequantise: what TensorRT takes for the order to compute in eight bits. The
        zero-point, always zero, is written out: TensorRT 8.6 demands it."""
        from onnx import TensorProto, helper

        kind = self._plan.eight_bits
        # A weight that is all zeros has no scale of its own; any does, but 0.
        small = np.finfo(np.float16 if self._plan.precision == "fp16" else np.float32).smallest_subnormal
        scale = np.asarray(np.maximum(scale, np.float32(small)), dtype=np.float32)
        zero = kind + ".zero" + "".join(f".{n}" for n in scale.shape)
        type_ = TensorProto.INT8 if kind == "int8" else TensorProto.FLOAT8E4M3FN
        self._keep(zero, helper.make_tensor(zero, type_, scale.shape, bytes(scale.size), raw=True))
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
