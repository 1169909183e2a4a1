"""A profile: what was measured, on what, and how. docs/profiling.md describes every field; schema.py is the
file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gaitedge.profiling.figures import Distribution

__all__ = [
    "Against",
    "Best",
    "Block",
    "Configuration",
    "Document",
    "Energy",
    "Figures",
    "Interval",
    "Layer",
    "Layers",
    "Memory",
    "Roofline",
    "Row",
    "Span",
    "Stage",
    "Stages",
]


@dataclass(frozen=True)
class Configuration:
    """What is varied in a sweep, and what two profiles are paired by."""

    engine: str
    """The runtime: "tensorrt", "cuda", "openvino", "onnxruntime" or, of --against, "pytorch"."""
    precision: str
    plan: str
    """"exported" (as it lies in the bundle), "naive" (the paper's letter), "fused" or "plugin"."""
    batch: int
    """Sequences a call."""
    frames: int
    """Of each."""
    threads: int | None
    """Of a CPU's engine; None on a GPU."""
    streams: int
    """Calls at the same time."""


@dataclass(frozen=True)
class Figures:
    """Times of a call, in trtexec's terms. What an engine has not, or does not tell, is None."""

    end_to_end: Distribution
    """From silhouettes to embeddings, both in the host's memory, by the host's clock."""
    host_to_device: Distribution | None = None
    compute: Distribution | None = None
    """Of the network alone: by CUDA events on a GPU, by the runtime's own clock on a CPU."""
    device_to_host: Distribution | None = None
    enqueue: Distribution | None = None
    """Of the host, until the network is in the GPU's queue, copies apart, as trtexec has it."""
    host: Distribution | None = None
    """What the three on the device leave of the end-to-end time: staging, waiting, Python."""


@dataclass(frozen=True)
class Memory:
    """Bytes, at their peak."""

    process_peak: int | None
    """Resident, of the process that ran this row alone."""
    process_before: int | None
    """Resident before the engine was loaded: Python and its packages."""
    device_peak: int | None = None
    """Of the GPU, by all that ran on it: the most of what was taken once the engine was warm, and right after
    the measured calls."""


@dataclass(frozen=True)
class Energy:
    """What a sensor says it cost, idle power subtracted."""

    sensor: str | None
    """As in "NVML, total energy of GPU 0", "INA3221, VDD_IN", "RAPL, package-0"."""
    absent: str | None = None
    """Why `joules_a_sequence` is not there: no sensor, one that stopped, or, with a sensor, work that drew no
    more than idleness."""
    seconds: float = 0.0
    """Of the work that was metered."""
    average_watts: float | None = None
    """While the engine ran, idle included."""
    idle_watts: float | None = None
    """Just before, with nothing of ours running."""
    joules_a_sequence: float | None = None
    """Without idle."""
    joules_a_sequence_whole: float | None = None
    """With idle."""


@dataclass(frozen=True)
class Row:
    """One configuration, measured or not to be had."""

    configuration: Configuration
    failed: str | None = None
    """Why there are no figures; None where there are."""
    description: str = ""
    """The engine's of itself."""
    figures: Figures | None = None
    load_ms: float | None = None
    """From the bundle to an engine that is ready; the median of the repeats, as the next one."""
    first_run_ms: float | None = None
    warmup_runs: int = 0
    """Between the first run and the measured ones; in no figure."""
    calls_per_second: float | None = None
    """Of all streams together, by the clock on the wall."""
    sequences_per_second: float | None = None
    frames_per_second: float | None = None
    memory: Memory | None = None
    energy: Energy | None = None
    clocks: dict[str, Any] = field(default_factory=dict)
    """Of processor and GPU before and after, temperatures, throttling; see gaitedge.machine.clocks."""
    samples_ms: list[list[float]] = field(default_factory=list)
    """End-to-end times in their order, a list a repeat (each in a process of its own); long ones thinned
    evenly."""
    control_ms: list[float] = field(default_factory=list)
    """A fixed piece of work, timed beside each repeat: what the machine itself was up to. Empty on a GPU."""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Best:
    """Of a sweep: what to take."""

    throughput: int | None
    """Number of the row with the most frames a second: sequences may differ in length."""
    latency: int | None
    """Number of the row with the least p99 of the end-to-end time."""
    bound_ms: float | None = None
    within_bound: int | None = None
    """The most frames a second among the rows whose p99 is within the bound; None where none is."""

    @property
    def row(self) -> int | None:
        """The row that stands for all: of those within the bound; where none is, the one with the least p99;
        without a bound, the one with most throughput."""
        if self.bound_ms is None:
            return self.throughput
        return self.latency if self.within_bound is None else self.within_bound


@dataclass(frozen=True)
class Interval:
    """A ratio and its 95 % interval by bootstrap."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Against:
    """The same inputs in the same run through something else, in turns with the row."""

    row: int
    """Number of the row that it is compared with."""
    name: str
    """As in "PyTorch 2.13.0 eager, the paper's letter"."""
    figures: Figures
    samples_ms: list[list[float]]
    speedup: Interval
    """Its time over the row's: above 1 the row is faster."""
    verdict: str
    """Of the row: "faster", "slower" or "not distinguishable"."""
    largest_difference: float
    """Between the embeddings of both, relative to the largest magnitude."""


@dataclass(frozen=True)
class Layer:
    """One layer as the runtime runs it."""

    name: str
    kind: str
    """The runtime's name of what it does."""
    block: str
    """Of the paper: "FConv1" … "FConv6", "HP", "MTB1", "MTB2", "TP", "FC"; several joined by " + "; "Input",
    or "other" for what the runtime adds."""
    precision: str | None
    ms: float
    """Mean of a call."""


@dataclass(frozen=True)
class Block:
    """The layers of one block of the paper."""

    name: str
    ms: float
    share: float
    """Of the sum of all layers."""
    macs: int | None
    """As gaitedge.export.blocks counts them."""
    bytes: int | None
    """Activations and parameters that it moves, likewise. None where no graph has them as they are moved: of
    our kernels in int8."""
    roofline_share: float | None
    """Of what the machine could do at this intensity: min(arithmetic, intensity × bandwidth). Above 1 where
    caches keep from memory what `bytes` counts. None where a block multiplies in another type than the
    roofline's."""
    bound: str | None
    """"compute" or "memory": which of the two that is."""


@dataclass(frozen=True)
class Layers:
    """Where a call's time goes, layer by layer."""

    row: int
    """Number of the row with this configuration."""
    source: str
    """As in "OpenVINO's performance counters"."""
    layers: list[Layer]
    blocks: list[Block]
    sum_ms: float
    """Of all layers."""
    total_ms: float
    """End-to-end time of the same calls, by the host's clock; of plain ones where `plain_ms` is None."""
    plain_ms: float | None = None
    """The same without the layers' clocks, in turns: their cost is the difference."""
    clock_cost: float | None = None
    """What the layers' clocks add to a call, as a share of it: the median over the turns, which a busy
    machine moves less than the two means."""


@dataclass(frozen=True)
class Roofline:
    """What this machine reached in a measurement of its own, with the row's runtime, threads and type."""

    precision: str
    macs_per_second: float
    bytes_per_second: float
    how: str


@dataclass(frozen=True)
class Span:
    """One piece of work of a run of `watch`."""

    stage: str
    """"decode", "segment", "track", "align", "embed", "match" or "annotate"."""
    thread: str
    begin_ms: float
    """Since the run began."""
    ms: float
    frame: int | None = None
    """Number of the frame that it was done for."""


@dataclass(frozen=True)
class Stage:
    """A stage's part of all frames."""

    name: str
    ms_a_frame: float
    """Mean over all frames."""
    share: float
    """Of the time that all stages took."""
    times: Distribution
    """Of its own spans."""


@dataclass(frozen=True)
class Stages:
    """Where a frame's time goes in `watch`."""

    source: str
    frames: int
    seconds: float
    stages: list[Stage]
    spans: list[Span]
    """Of the frames in a row in which most was done; all are in the trace."""


@dataclass(frozen=True)
class Document:
    """One run of `gaitedge bench`."""

    created: str
    """UTC, ISO 8601."""
    command: str
    bundle: str
    fingerprint: str
    """Of the model."""
    environment: dict[str, Any]
    """As gaitedge.machine.environment gives it."""
    settings: dict[str, Any]
    """How it was measured: seconds, repeats, warm-up, inputs and their seed."""
    rows: list[Row]
    best: Best | None = None
    against: Against | None = None
    layers: Layers | None = None
    roofline: Roofline | None = None
    stages: Stages | None = None
    warnings: list[str] = field(default_factory=list)
