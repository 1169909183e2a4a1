"""What an engine is measured with: drawn afresh, or real walks of a store."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import HEIGHT, WIDTH
from gaitedge.data.silhouettes import Silhouettes
from gaitedge.data.sources import open_sources
from gaitedge.engines.inputs import draw_silhouettes

__all__ = ["COUNT", "describe", "make_inputs"]

COUNT = 4
"""Different inputs of a shape, which calls take in turn."""
_FEWER_ABOVE = 32 << 20  # bytes of one: then two of them
_DRAWN = 600  # silhouettes; more would take seconds, and are drawn from these


def describe(text: str | None, frames: Sequence[int]) -> str:
    """Where the inputs come from, in words.

    text: as make_inputs takes it. Raises what gaitedge.data.sources.open_sources does.
    """
    if text is None:
        return "synthetic silhouettes, drawn for each repeat"
    walks = _open(text)
    shortest, longest = min(map(len, walks)), max(map(len, walks))
    lengths = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
    repeated = "; shorter ones repeated from their start" if shortest < max(frames) else ""
    return f"{text}: {len(walks)} walks of {lengths} frames, cut at random{repeated}"


def make_inputs(text: str | None, batch: int, frames: int, seed: int, repeat: int) -> list[NDArray[np.uint8]]:
    """Different silhouettes [batch, frames, 64, 44] for the calls of one repeat.

    text: the walks to take them from, as gaitedge.data.sources.open_sources takes it, but of any length; each
    gives consecutive frames from a random place, a short one is repeated from its start. None draws
    silhouettes. They follow from shape, seed and repeat. Raises MemoryError where they do not fit, and what
    open_sources does.
    """
    size = batch * frames * HEIGHT * WIDTH
    if size > sys.maxsize // COUNT:
        raise MemoryError(f"{batch} sequences of {frames} frames are {size:.1e} bytes")
    rng = np.random.default_rng((seed, repeat, batch, frames))
    count = COUNT if size <= _FEWER_ABOVE else 2
    inputs = [np.empty((batch, frames, HEIGHT, WIDTH), np.uint8) for _ in range(count)]
    if text is None:
        _draw(inputs, rng)
    else:
        walks = _open(text)
        order = rng.permutation(len(walks))
        slots = (sequence for one in inputs for sequence in one)
        for number, sequence in enumerate(slots):
            walk = walks[order[number % len(walks)]]
            start = int(rng.integers(0, max(len(walk) - frames, 0) + 1))
            sequence[:] = walk[np.arange(start, start + frames) % len(walk)]
    return inputs


def _open(text: str) -> list[Silhouettes]:
    return [source.silhouettes for source in open_sources(text, minimum=1)]


def _draw(inputs: list[NDArray[np.uint8]], rng: np.random.Generator) -> None:
    """Fill them with silhouettes."""
    batch, frames = inputs[0].shape[:2]
    if batch * frames * len(inputs) <= _DRAWN:
        for one in inputs:
            one[:] = draw_silhouettes(batch, frames, rng)
        return
    (drawn,) = draw_silhouettes(1, _DRAWN, rng)
    for one in inputs:
        for sequence in one:
            sequence[:] = drawn[rng.integers(0, _DRAWN, frames)]
