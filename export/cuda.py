"""Weights packed for the CUDA engine, and that engine held against the paper's letter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import make_bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines.cuda import CudaEngine, require_kernels
from gaitedge.engines.cuda_payload import FRAME_NETWORK, LAYERS, TWO_LAUNCHES, Form, Payload, scalar
from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.errors import InputError
from gaitedge.export import agreement, packing
from gaitedge.machine.tensorrt import driver, platform
from gaitedge.manifest import Agreement, Packed, Target
from gaitedge.weights import fingerprint

if TYPE_CHECKING:
    from gaitedge.engines import Engine
    from gaitedge.export.quantization import Quantization
    from gaitedge.weights import Weights

__all__ = ["RAGGED", "SHAPES", "compare", "make", "pack"]

# Batch and frames on which the engine must agree with the letter. One of them three times: the engine
# records a CUDA graph at the second, and replays it at the third.
SHAPES = (*agreement.SHAPES, (1, 30), (1, 30))
RAGGED = (1, 30, 2, 17)
"""Lengths of the sequences that are embedded in one call beside these."""


def pack(
    config: GaitPartConfig, weights: Weights, precision: str, quantization: Quantization | None = None
) -> Payload:
    """Weights as the engine takes them.

    quantization: of these weights, for int8. Raises InputError where this network has no int8 kernel, or
    where the calibration leaves an FConv in floating point.
    """
    paper = packing.fits(config)
    form: Form = TWO_LAUNCHES if paper and precision != "fp32" else LAYERS
    used, frames = weights, dict[str, NDArray[Any]]()
    if precision == "int8":
        used, scales, biases = _int8(config, quantization, paper)
        frames[FRAME_NETWORK] = packing.pack_frame_network(config, used, "int8", scales, biases)
    elif form == TWO_LAUNCHES:
        frames[FRAME_NETWORK] = packing.pack_frame_network(config, used, "fp16", {}, {})
    else:
        for layer in range(len(config.strips)):
            with np.errstate(over="ignore"):
                kernel = used[f"frame.{layer}"].transpose(0, 2, 3, 1).astype(scalar(precision))
            if not np.isfinite(kernel).all():
                raise InputError(f"a weight of fconv{layer + 1} is beyond FP16: take --precision fp32")
            frames[f"frame.{layer}"] = np.ascontiguousarray(kernel)
    motion = packing.pack_micro_motion(config, used, "fp32" if precision == "fp32" else "fp16")
    return Payload(form, precision, fingerprint(config, weights), {**frames, **motion})


def make(
    config: GaitPartConfig,
    weights: Weights,
    precision: str,
    quantization: Quantization | None,
    reference: Engine,
) -> tuple[Target, dict[str, bytes], Engine]:
    """Pack weights, run the engine on this machine's GPU, and hold it against the letter.

    reference: the letter. Gives the target, its member and the engine. Raises MachineError without a GPU or
    the kernels, or where the engine disagrees; MissingPackage without pycuda; InputError where the kernels
    have no such network.
    """
    device, library = require_kernels("the target cuda")
    member = f"engines/cuda-{precision}.safetensors"
    members = {member: pack(config, weights, precision, quantization).to_bytes()}
    newest = driver().cuda
    packed = Packed(
        member=member,
        device=device.name,
        compute_capability=device.compute_capability,
        versions={
            "cuda": ".".join(map(str, newest)) if newest else "unknown",
            "kernels": library.sources,
            "platform": platform(),
        },
    )
    target = Target("cuda", precision, packed=packed)
    trial = make_bundle(config, weights, members, {})
    engine = CudaEngine(trial, target, "to be checked")
    try:
        found = compare(engine, reference)
    except InputError as error:
        raise InputError(f"{error}: take another target for this network, as in --target cpu") from None
    agreement.check_agreement(engine.description, precision, found)
    return dataclasses.replace(target, agreement=found), members, engine


def compare(engine: CudaEngine, reference: Engine) -> Agreement:
    """How far the engine is from the letter: sequences of one length, and of several in one call."""
    rng = np.random.default_rng(0)
    batches = [draw_silhouettes(*shape, rng) for shape in SHAPES]
    ragged = [draw_silhouettes(1, frames, rng)[0] for frames in RAGGED]
    found = [*map(engine.embed, batches), engine.embed_many(ragged)]
    wanted = [reference.embed(batch) for batch in (*batches, *(walk[None] for walk in ragged))]
    return agreement.measure(found, wanted, reference.description.partition(";")[0])


def _int8(
    config: GaitPartConfig, quantization: Quantization | None, paper: bool
) -> tuple[Weights, dict[str, float], Mapping[str, NDArray[np.float32]]]:
    """Weights, scales and biases of the FConvs; the temporal head is computed in FP16, exactly enough."""
    if quantization is None:
        raise InputError("int8 needs a calibration of these weights; run: gaitedge calibrate")
    if not paper:
        raise InputError(
            "the CUDA kernels have int8 for the paper's network alone (Tab. 1), and this one has "
            f"channels {config.channels} and strips {config.strips}: take --precision fp16"
        )
    layers = [f"fconv{layer + 1}" for layer in range(len(config.strips))]
    scales = {layer: scale for layer, scale in quantization.scales if layer in layers}
    if floating := [layer for layer in layers if layer not in scales]:
        raise InputError(
            "the CUDA kernels compute all FConvs in int8 or none, and this calibration leaves "
            f"{', '.join(floating)} in floating point: take --precision fp16, or another calibration"
        )
    biases = {layer: bias for layer, bias in quantization.biases.items() if layer in layers}
    return quantization.weights, scales, biases
