"""What the kernels are asked: kernels_reference.py over shapes, the small ones also on a CPU.

As a program, `python kernels_cases.py LIBRARY` runs the small ones on a GPU and computes all else on the CPU:
then the kernels are all that compute-sanitizer sees.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import kernels_networks as networks
import kernels_reference as reference
import torch
from kernels_reference import Layer, Place

from gaitedge.config import GaitPartConfig
from gaitedge.cuda import CHANNELS_FIRST, CHANNELS_LAST, FLOAT16, INT8, Library

TYPES = {"fp32": torch.float32, "fp16": torch.float16}
LAYOUTS = {"nchw": CHANNELS_FIRST, "nhwc": CHANNELS_LAST}
LAYERS = {
    "FConv1": Layer(1, 32, 64, 44, kernel=5),
    "FConv2": Layer(32, 32, 64, 44, pool=True),
    "FConv3": Layer(32, 64, 32, 22, strips=4),
    "FConv4": Layer(64, 64, 32, 22, strips=4, pool=True),
    "FConv5": Layer(64, 128, 16, 11, strips=8),
    "FConv6": Layer(128, 128, 16, 11, strips=8),
}
ODD = Layer(7, 13, 15, 9, strips=4, pool=True, count=3)
SMALL_LAYER = Layer(32, 64, 16, 11, strips=4, pool=True)
OTHER = GaitPartConfig(channels=(8, 24), strips=(1, 2, 3, 4), parts=5, templates=(2,), embedding_dim=40)
WIDE = GaitPartConfig(channels=(8, 64), strips=(1,) * 4, parts=3, embedding_dim=40)  # for the tensor cores
MEAN = GaitPartConfig(temporal_pooling="mean", attention=False)


@dataclass(frozen=True)
class Case:
    """A check, by a name that says its kernel first; small: whether the host build takes it, too."""

    name: str
    check: Callable[[Place], None]
    small: bool


def _cases() -> list[Case]:
    made: list[Case] = []

    def add(
        name: str, check: Callable[..., None], *arguments: object, small: bool = False, **more: object
    ) -> None:
        made.append(Case(name, lambda place: check(place, *arguments, **more), small))

    for precision, dtype in TYPES.items():
        for name, layout in LAYOUTS.items():
            where = f"{name} {precision}"
            add(f"part_pool {where}", reference.part_pool, dtype, layout, (3, 128, 16, 11), 16, small=True)
            add(f"part_pool {where} odd", reference.part_pool, dtype, layout, (2, 33, 17, 5), 6, small=True)
            add(f"part_pool {where} 1920 frames", reference.part_pool, dtype, layout, (1920, 128, 16, 11), 16)
            for layer, shape in LAYERS.items():
                add(f"focal_conv {where} {layer}", reference.focal_conv, dtype, layout, shape)
            add(f"focal_conv {where} odd", reference.focal_conv, dtype, layout, ODD, small=True)
            add(f"focal_conv {where} small", reference.focal_conv, dtype, layout, SMALL_LAYER, small=True)
        motion = networks.micro_motion
        for length in (1, 2, 3, 29, 200):
            lengths = [length] * 2
            add(
                f"micro_motion {precision} 2 x {length}",
                motion,
                dtype,
                lengths,
                ragged=False,
                small=length == 3,
            )
        add(f"micro_motion {precision} 64 x 30", motion, dtype, [30] * 64, ragged=False)
        add(f"micro_motion {precision} ragged", motion, dtype, [1, 33, 7, 60, 2], ragged=True)
        add(f"micro_motion {precision} few", motion, dtype, [2, 31], OTHER, ragged=True, small=True)
        add(f"micro_motion {precision} mean", motion, dtype, [5, 5], MEAN, ragged=False)
        stream = networks.micro_motion_stream
        add(f"micro_motion_stream {precision}", stream, dtype, 12)
        add(f"micro_motion_stream {precision} few", stream, dtype, 6, OTHER, small=True)
        add(f"micro_motion {precision} wide", motion, dtype, [2, 31], WIDE, ragged=True, small=True)
        add(f"micro_motion_stream {precision} wide", stream, dtype, 6, WIDE, small=True)
        distance = reference.part_distance
        add(f"part_distance {precision} one of 20", distance, dtype, 1, 20, 5, small=True)
        add(f"part_distance {precision} cut", distance, dtype, 9, 700, 20, 2, 7, small=True)
        add(f"part_distance {precision} one of 5000", distance, dtype, 1, 5000, 10)
        add(f"part_distance {precision} 100 of 3000", distance, dtype, 100, 3000, 64)
    add("focal_conv int8", reference.focal_conv_int8, SMALL_LAYER, small=True)
    for layer in list(LAYERS)[1:]:
        add(f"focal_conv int8 {layer}", reference.focal_conv_int8, LAYERS[layer])
    for kind, precision in ((FLOAT16, "fp16"), (INT8, "int8")):
        network = networks.frame_network
        add(f"frame_network {precision} of fp16", network, kind, torch.float16, 2)
        add(f"frame_network {precision} 1", network, kind, torch.uint8, 1, small=True)
        add(f"frame_network {precision} 300", network, kind, torch.uint8, 300)
    add("two_launches 3", networks.two_launches, 3)
    add("two_launches 30", networks.two_launches, 30)
    return made


CASES = _cases()
SMALL = [case for case in CASES if case.small]


def main() -> None:
    place = Place(Library(Path(sys.argv[1])), "cuda", "cpu")
    for case in SMALL:
        case.check(place)
    sys.stdout.write(f"{len(SMALL)} cases\n")


if __name__ == "__main__":
    main()
