"""A profile with everything in it, drawn, not measured."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from gaitedge.profiling.document import (
    Against,
    Best,
    Block,
    Configuration,
    Document,
    Energy,
    Figures,
    Interval,
    Layer,
    Layers,
    Memory,
    Roofline,
    Row,
    Span,
    Stage,
    Stages,
)
from gaitedge.profiling.figures import Distribution, summarize

_ENGINE = "OpenVINO 2026.4.1 on a processor, {precision}, 2 threads; the faster of the engines"


def times(typical: float, seed: int, runs: int = 200) -> list[float]:
    """Milliseconds about a typical one, with a tail, as a busy machine has them."""
    rng = np.random.default_rng(seed)
    drawn = typical * (1 + 0.02 * rng.standard_normal(runs) + 0.05 * rng.exponential(size=runs) ** 2)
    return [round(float(value), 4) for value in drawn]


def distribution(typical: float, seed: int = 0) -> Distribution:
    return summarize(times(typical, seed))


def make_row(
    batch: int = 1, frames: int = 30, precision: str = "fp32", typical: float | None = None, seed: int = 0
) -> Row:
    """A measured row."""
    if typical is None:
        typical = (0.5 + 0.5 * batch * frames) * {"fp32": 1.0, "int8": 0.4}[precision]
    repeats = [times(typical * (1 + 0.005 * math.sin(number)), seed + number) for number in range(5)]
    every = [value for repeat in repeats for value in repeat]
    mean = sum(every) / len(every)
    return Row(
        configuration=Configuration("openvino", precision, "exported", batch, frames, 2, 1),
        description=_ENGINE.format(precision=precision),
        figures=Figures(end_to_end=summarize(every), compute=distribution(typical * 0.97, seed)),
        load_ms=101.5,
        first_run_ms=typical * 3,
        warmup_runs=12,
        calls_per_second=1e3 / mean,
        sequences_per_second=batch * 1e3 / mean,
        frames_per_second=batch * frames * 1e3 / mean,
        memory=Memory(process_peak=212_000_000 + 900_000 * batch * frames, process_before=61_000_000),
        energy=Energy(
            sensor="RAPL, package-0",
            seconds=3.0,
            average_watts=31.2,
            idle_watts=11.5,
            joules_a_sequence=19.7 * mean / 1e3 / batch,
            joules_a_sequence_whole=31.2 * mean / 1e3 / batch,
        ),
        clocks={"before": {"cpu_mhz": 2450.0, "load": 0.4}, "after": {"cpu_mhz": 2440.0, "load": 1.9}},
        samples_ms=repeats,
        control_ms=[5.01, 5.02, 4.99, 5.0, 5.03],
    )


def make_layers(total: float = 15.5) -> Layers:
    """Of row 0."""
    blocks = {
        "FConv1": (2.1, 25_344_000, 6_700_000),
        "FConv2": (3.9, 811_008_000, 13_500_000),
        "FConv3": (2.2, 405_504_000, 6_700_000),
        "FConv4": (3.0, 811_008_000, 6_700_000),
        "FConv5": (1.6, 405_504_000, 3_400_000),
        "FConv6": (2.1, 811_008_000, 4_000_000),
        "HP": (0.2, 0, 1_300_000),
        "MTB1": (0.2, 5_900_000, 600_000),
        "MTB2": (0.2, 5_900_000, 600_000),
        "TP": (0.05, 0, 250_000),
        "FC": (0.1, 524_288, 2_100_000),
        "other": (0.03, None, None),
    }
    whole = sum(taken for taken, _, _ in blocks.values())
    return Layers(
        row=0,
        source="OpenVINO's performance counters",
        layers=[
            Layer(f"{name.lower()}.conv", "Convolution", name, "fp32", taken)
            for name, (taken, _, _) in blocks.items()
        ],
        blocks=[
            Block(
                name,
                taken,
                taken / whole,
                macs,
                moved,
                0.62 if macs else None,
                ("compute" if macs > 1e7 else "memory") if macs else None,
            )
            for name, (taken, macs, moved) in blocks.items()
        ],
        sum_ms=whole,
        total_ms=total * 1.02,
        plain_ms=total,
        clock_cost=0.02,
    )


def make_stages(frames: int = 60) -> Stages:
    """A watch in which somebody walks from frame 20 to frame 50."""
    spans, at = [], 0.0
    for frame in range(frames):
        walking = 20 <= frame < 50
        parts = {"segment": 9.0, "track": 4.0} | ({"align": 0.4, "embed": 1.1} if walking else {})
        if walking and frame % 3 == 0:
            parts["match"] = 0.3
        spans.append(Span("decode", "reader", at, 3.1, frame))
        for stage, taken in parts.items():
            spans.append(Span(stage, "watch", at, taken * (1 + 0.1 * math.sin(frame)), frame))
            at += taken
    of: dict[str, list[float]] = {}
    for span in spans:
        of.setdefault(span.stage, []).append(span.ms)
    whole = sum(map(sum, of.values()))
    return Stages(
        source="walk.mp4",
        frames=frames,
        seconds=at / 1e3,
        stages=[
            Stage(name, sum(each) / frames, sum(each) / whole, summarize(each)) for name, each in of.items()
        ],
        spans=spans,
    )


def make_document() -> Document:
    """A sweep of two batches, three lengths and two precisions, one of which failed."""
    rows = [
        make_row(batch, frames, precision, seed=10 * batch + frames)
        for precision in ("fp32", "int8")
        for batch in (1, 8)
        for frames in (1, 30, 300)
    ]
    rows[5] = Row(rows[5].configuration, failed="its process was killed (signal 9), as by a full memory")
    rows[1] = dataclasses.replace(rows[1], warnings=["the times vary by 6.1 %: end other programs"])
    absent = Energy(sensor=None, absent="energy_uj may be read by root alone; run as root")
    rows[0] = dataclasses.replace(rows[0], energy=absent)
    first = rows[0].figures
    assert first is not None
    return Document(
        created="2026-11-22T10:00:00+00:00",
        command="gaitedge bench walkers.gait --batch 1,8 --frames 1,30,300 --precision fp32,int8",
        bundle="walkers.gait",
        fingerprint="ab" * 32,
        environment={
            "cpu": "A processor of 2 cores",
            "cores": 2,
            "system": "Linux",
            "packages": {"openvino": "2026.4.1", "torch": None},
        },
        settings={"seconds": 3.0, "repeats": 5, "warmup_s": 0.2, "inputs": "drawn, seed 0"},
        rows=rows,
        best=Best(throughput=9, latency=6, bound_ms=10.0, within_bound=7),
        against=Against(
            row=1,
            name="PyTorch 2.13.0 eager, the paper's letter",
            figures=Figures(end_to_end=distribution(49.0)),
            samples_ms=[times(49.0, 3)],
            speedup=Interval(3.12, 3.05, 3.2),
            verdict="faster",
            largest_difference=2.1e-6,
        ),
        layers=dataclasses.replace(make_layers(), row=1),
        roofline=Roofline("fp32", 2.45e11, 2.1e10, "a convolution, and a copy of 256 MB, 2 threads"),
        stages=make_stages(),
        warnings=["this is a virtual machine: neighbours may take processor time"],
    )
