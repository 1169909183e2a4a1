"""What an engine may tell of the time that it takes, beside embeddings: gaitedge.profiling asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["CallTimes", "LayerTime", "LayerTimer", "LayerTimes", "TimedEmbedder"]


@dataclass(frozen=True)
class CallTimes:
    """Milliseconds of one call's parts; None for what the engine has not."""

    host_to_device: float | None = None
    """On the device, by CUDA events, as the two below."""
    compute: float | None = None
    """Of a CPU's engine by the runtime's own clock."""
    device_to_host: float | None = None
    enqueue: float | None = None
    """Of the host, until the network is in the GPU's queue, copies apart, as trtexec has it."""


@dataclass(frozen=True)
class LayerTime:
    """A layer as a runtime runs it, summed over all calls."""

    name: str
    kind: str
    """The runtime's name of what it does, such as "Convolution"."""
    nodes: tuple[str, ...]
    """The nodes of the graph that it does the work of, as far as the runtime says."""
    precision: str | None
    ms: float
    feeds: tuple[str, ...] = ()
    """Of what the runtime added by itself, such as a change of layout: the nodes that it does that for."""


@dataclass(frozen=True)
class LayerTimes:
    """What calls took, layer by layer and as a whole."""

    layers: list[LayerTime]
    """In the order in which they run."""
    total_ms: float | None
    """End-to-end time of these same calls, summed up, by the host's clock; reading the layers' clocks is not
    in it. None where a call is not run as embed runs it."""


@runtime_checkable
class TimedEmbedder(Protocol):
    """An engine that tells what a call's time went into."""

    def embed_timed(self, silhouettes: NDArray[np.uint8]) -> tuple[NDArray[np.float32], CallTimes]:
        """As Embedder.embed, and the times of this call. On a GPU the copies are launched apart from the
        network then, which a plain call may do in one CUDA graph."""


@runtime_checkable
class LayerTimer(Protocol):
    """An engine that tells what each layer takes. It may be slower meanwhile."""

    def layer_times(self, calls: Sequence[NDArray[np.uint8]]) -> LayerTimes:
        """Run these calls, each silhouettes [batch, frames, 64, 44], and sum each layer's time up over them.

        Raises MachineError where this engine cannot tell, as it was loaded.
        """
