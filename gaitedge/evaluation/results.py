"""What an evaluation finds: plain numbers that print as JSON."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Accuracy", "Evaluation", "Histogram", "OperatingPoint", "ProbeSet", "Verification"]


@dataclass(frozen=True)
class Accuracy:
    """Closed-set identification: shares from 0 to 1, identical views excluded."""

    by_view: dict[str, float | None]
    """Rank-1: probe view -> mean over the gallery views; None where it has no probes."""
    mean: float | None
    """Mean over the probe views that have a figure, as in Tab. 3 and 4."""
    cmc: tuple[float, ...] | None
    """Rank 1 to rank 20: the share of the probes whose subject is among the nearest k subjects, a
    subject being as near as its nearest sequence. Averaged over the pairs of views exactly as rank-1
    is: the first is `mean`."""
    probes: int
    """How many probes count in one pair of views or more."""


@dataclass(frozen=True)
class OperatingPoint:
    """Verification at one threshold: pairs of a distance below it are accepted."""

    threshold: float
    far: float
    """False accept rate: share of the impostor pairs that are accepted."""
    tar: float
    """True accept rate: share of the genuine pairs that are accepted."""


@dataclass(frozen=True)
class Histogram:
    """How many pairs there are at which distance; bin i is of distances from i to i+1 widths."""

    width: float
    genuine: tuple[int, ...]
    impostor: tuple[int, ...]


@dataclass(frozen=True)
class Verification:
    """Is this the same person? Over all pairs of a probe and a gallery sequence of different views."""

    genuine: int
    """Pairs of one subject."""
    impostor: int
    """Pairs of two subjects."""
    eer: float
    """Equal error rate: where as many genuine pairs are rejected as impostor pairs are accepted."""
    threshold: float
    """The distance at which that is."""
    tar_at_far: dict[str, float | None]
    """"1e-1" to "1e-4" -> TAR; None where fewer than 10 impostor pairs may be accepted by mistake."""
    roc: tuple[OperatingPoint, ...]
    """From a FAR of 1 down to 1e-4, ten points a decade as far as there are impostor pairs for them."""
    resolution: float
    """Step of all thresholds. The rates at a threshold are exact."""
    histogram: Histogram


@dataclass(frozen=True)
class ProbeSet:
    """The figures of one set of probes, such as "BG"."""

    all_probes: Accuracy
    """Of every probe; one whose subject has no sequence in a pair's gallery counts as wrong there."""
    with_gallery: Accuracy
    """In each pair of views, only of the probes whose subject has a sequence in its gallery."""
    verification: Verification | None
    """None where there are no genuine or no impostor pairs."""


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on one data set by one protocol (Sec. 4.1)."""

    protocol: str
    """"casia-b" or "oumvlp"."""
    views: tuple[str, ...]
    """Of the gallery or of probes, sorted."""
    subjects: int
    """In the gallery or among the probes."""
    gallery: int
    """Sequences."""
    probes: int
    """Sequences."""
    probe_sets: dict[str, ProbeSet]
    """"NM", "BG" and "CL" by CASIA-B's protocol, "NM" alone by OU-MVLP's."""
    engine: str | None = None
    """What made the embeddings: runtime, device and precision. None where they came from elsewhere."""
