"""Each kernel against PyTorch: on a GPU, and, with the kernels' host build, the same checks on a CPU.

A kernel's error against FP64 is at most twice that of PyTorch in the kernel's own precision.
kernels_cases.py says over which shapes, kernels_networks.py has what takes a whole network's weights.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from networks import random_silhouettes, random_weights
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (PyTorch's own spelling)

from gaitedge import cuda
from gaitedge.config import GaitPartConfig, strip_heights
from gaitedge.cuda import Library
from gaitedge.model import SLOPE, GaitPart, horizontal_pooling

PAPER = GaitPartConfig()
TYPES = {
    torch.float32: cuda.FLOAT32,
    torch.float16: cuda.FLOAT16,
    torch.int8: cuda.INT8,
    torch.uint8: cuda.UINT8,
}
GUARD = 256  # bytes on both sides of a result


@dataclass(frozen=True)
class Place:
    """A library of the kernels, the device that it is for, and the one that PyTorch computes on."""

    library: Library
    device: str
    reference: str

    def __post_init__(self) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def put(self, tensor: Tensor) -> Tensor:
        return tensor.contiguous().to(self.device)

    def launch(self, arguments: ctypes.Structure) -> None:
        stream = torch.cuda.current_stream().cuda_stream if self.device == "cuda" else 0
        self.library.launch(arguments, stream)
        if self.device == "cuda":
            torch.cuda.synchronize()

    def model(self, config: GaitPartConfig, dtype: torch.dtype, rounded: torch.dtype) -> GaitPart:
        """The random network in `dtype`, its weights rounded to `rounded` before."""
        model = GaitPart(config).load(random_weights(config, 0)).eval()
        return model.requires_grad_(requires_grad=False).to(rounded).to(self.reference, dtype)


class Result:
    """Memory for a result: poisoned with NaN, and guarded on both sides."""

    def __init__(self, place: Place, shape: Sequence[int], dtype: torch.dtype) -> None:
        self._place, self._shape, self._dtype = place, shape, dtype
        self._size = torch.Size(shape).numel() * dtype.itemsize
        memory = torch.full((self._size + 2 * GUARD,), 0xA5, dtype=torch.uint8)
        memory[GUARD : GUARD + self._size] = 0xFF
        self._memory = place.put(memory)

    @property
    def address(self) -> int:
        return self._memory.data_ptr() + GUARD

    def read(self) -> Tensor:
        memory = self._memory.cpu()
        inside = memory[GUARD : GUARD + self._size]
        assert (memory[:GUARD] == 0xA5).all(), "memory before the result was written"
        assert (memory[GUARD + self._size :] == 0xA5).all(), "memory after the result was written"
        return inside.clone().view(self._dtype).reshape(*self._shape).to(self._place.reference)


def compare(found: Tensor, exact: Tensor, plain: Tensor) -> None:
    """found: the kernel's; exact: in FP64; plain: PyTorch's in the kernel's precision."""
    assert found.shape == exact.shape == plain.shape
    assert torch.isfinite(found).all(), "NaN or infinite"
    if not found.numel():
        return
    errors = [(one.double() - exact).abs() for one in (found, plain)]
    last_digit = torch.finfo(found.dtype).eps * exact.abs().max()
    for name, of in (("largest", torch.max), ("mean", torch.mean)):
        ours, theirs = (float(of(error)) for error in errors)
        assert ours <= 2 * theirs + last_digit, f"{name} error {ours:.3g}, PyTorch's {theirs:.3g}"


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# Each kernel -----------------------------------------------------------------------------------------


def part_pool(place: Place, dtype: torch.dtype, layout: int, shape: tuple[int, ...], parts: int) -> None:
    x = draw(*shape, dtype=dtype)
    given = place.put(x.permute(0, 2, 3, 1) if layout == cuda.CHANNELS_LAST else x)
    y = Result(place, (shape[0], parts, shape[1]), dtype)
    place.launch(cuda.PartPool(given.data_ptr(), y.address, TYPES[dtype], layout, *shape, parts))
    x = x.to(place.reference)
    compare(y.read(), horizontal_pooling(x.double(), parts), horizontal_pooling(x, parts))


def fconv(x: Tensor, weight: Tensor, bias: Tensor, strips: int) -> Tensor:
    """FConv with a bias, x [N, in, H, W], weight [out, in, k, k]."""
    cut = torch.split(x, strip_heights(x.shape[2], strips), dim=2)
    done = [F.conv2d(strip, weight, bias, padding=weight.shape[-1] // 2) for strip in cut]
    return F.leaky_relu(torch.cat(done, dim=2), SLOPE)


@dataclass(frozen=True)
class Layer:
    """A FocalConv; the first one of a network reads silhouettes."""

    inputs: int
    out: int
    height: int
    width: int
    kernel: int = 3
    strips: int = 1
    pool: bool = False
    count: int = 2

    def arguments(self, x: Tensor, weight: Tensor, bias: Tensor, y: Result, layout: int) -> cuda.FocalConv:
        sizes = (self.count, self.inputs, self.out, self.height, self.width)
        return cuda.FocalConv(
            *(x.data_ptr(), weight.data_ptr(), bias.data_ptr(), None, y.address, SLOPE, 0.0),
            *(TYPES[weight.dtype], TYPES[x.dtype], layout, *sizes, self.kernel, self.strips, int(self.pool)),
        )

    def output(self) -> tuple[int, int, int, int]:
        shrunk = 2 if self.pool else 1
        return (self.count, self.out, self.height // shrunk, self.width // shrunk)


def focal_conv(place: Place, dtype: torch.dtype, layout: int, layer: Layer) -> None:
    count, out, height, width = layer.output()
    last = layout == cuda.CHANNELS_LAST
    if layer.inputs == 1:
        x = torch.from_numpy(random_silhouettes(1, layer.count, 1))[0, :, None, : layer.height, : layer.width]
    else:
        x = draw(layer.count, layer.inputs, layer.height, layer.width, seed=1, dtype=dtype)
    fan = layer.inputs * layer.kernel**2
    weight = (draw(layer.out, layer.inputs, layer.kernel, layer.kernel, seed=2) / fan**0.5).to(dtype)
    bias = draw(layer.out, seed=3) * 0.3
    given = place.put(x.permute(0, 2, 3, 1) if last and layer.inputs > 1 else x)
    kept, added = place.put(weight.permute(0, 2, 3, 1)), place.put(bias)
    y = Result(place, (count, height, width, out) if last else (count, out, height, width), dtype)
    place.launch(layer.arguments(given, kept, added, y, layout))
    found = y.read().permute(0, 3, 1, 2) if last else y.read()

    def reference(precision: torch.dtype) -> Tensor:
        parts = [part.to(place.reference, precision) for part in (x, weight, bias)]
        if layer.inputs == 1:
            parts[0] = parts[0] / 255
        activated = fconv(parts[0], parts[1], parts[2], layer.strips)
        return F.max_pool2d(activated, 2) if layer.pool else activated

    compare(found, reference(torch.float64), reference(dtype))


def focal_conv_int8(place: Place, layer: Layer) -> None:
    """Integers: what the kernel gives is at most one step off, where a rounding was on the edge."""
    count, out, height, width = layer.output()
    generator = torch.Generator().manual_seed(4)

    def integers(*shape: int) -> Tensor:
        return torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8)

    x = integers(layer.count, layer.inputs, layer.height, layer.width)
    weight = integers(layer.out, layer.inputs, layer.kernel, layer.kernel)
    scale = torch.rand(layer.out, generator=generator) * 1e-4 + 1e-5
    bias, inverse = draw(layer.out, seed=5), 11.0
    groups = x.reshape(layer.count, layer.inputs // 32, 32, layer.height, layer.width).permute(0, 1, 3, 4, 2)
    given, kept = place.put(groups), place.put(weight.permute(0, 2, 3, 1))
    added, steps = place.put(bias), place.put(scale)
    y = Result(place, (count, out // 32, height, width, 32), torch.int8)
    arguments = layer.arguments(given, kept, added, y, cuda.CHANNELS32)
    arguments.scale, arguments.inverse_scale = steps.data_ptr(), inverse
    place.launch(arguments)
    found = y.read().permute(0, 1, 4, 2, 3).reshape(count, out, height, width)
    integer = [part.to(place.reference, torch.float64) for part in (x, weight, scale, bias)]
    cut = torch.split(integer[0], strip_heights(layer.height, layer.strips), dim=2)
    sums = torch.cat([F.conv2d(strip, integer[1], padding=layer.kernel // 2) for strip in cut], dim=2)
    real = F.leaky_relu(sums * integer[2][:, None, None] + integer[3][:, None, None], SLOPE)
    expected = ((F.max_pool2d(real, 2) if layer.pool else real) * inverse).round().clamp(-127, 127)
    difference = (found.double() - expected).abs()
    assert difference.max() <= 1
    assert difference.mean() < 1e-3


def part_distance(
    place: Place, dtype: torch.dtype, probes: int, entries: int, k: int, parts: int = 16, dim: int = 256
) -> None:
    ours, theirs = draw(probes, parts, dim, seed=8), draw(entries, parts, dim, seed=9, dtype=dtype)
    given, gallery = place.put(ours), place.put(theirs)
    distance = Result(place, (probes, k), torch.float32)
    index = Result(place, (probes, k), torch.int32)
    arguments = cuda.PartDistance(
        *(given.data_ptr(), gallery.data_ptr(), distance.address, index.address, None),
        *(TYPES[dtype], probes, entries, parts, dim, k),
    )
    workspace = place.put(torch.zeros(max(1, place.library.workspace(arguments)), dtype=torch.uint8))
    arguments.workspace = workspace.data_ptr()
    for _ in range(2):  # the second launch finds what the first one left in the workspace
        gallery.copy_(theirs)
        place.launch(arguments)
        exact, plain = (_all_distances(ours, theirs, place, kind) for kind in (torch.float64, torch.float32))
        found, numbers = distance.read(), index.read().long()
        assert all(len(set(row)) == k for row in numbers.tolist())
        compare(found, exact.gather(1, numbers), plain.gather(1, numbers))
        compare(found, exact.sort(1).values[:, :k], plain.sort(1).values[:, :k])
        theirs = theirs.flip(0) + 1


def _all_distances(ours: Tensor, theirs: Tensor, place: Place, precision: torch.dtype) -> Tensor:
    probes, gallery = (part.to(place.reference, precision) for part in (ours, theirs))
    return torch.stack([(probe - gallery).square().sum(2).sqrt().mean(1) for probe in probes])
