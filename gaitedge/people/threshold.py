"""The operating point of an open set: a threshold by the false-accept rate that may be paid for it.

A probe of somebody whom the gallery does not know is accepted falsely where its nearest person, of all
who are enrolled, is within the threshold. That rate (FPIR in ISO/IEC 19795-1) grows with the number of
people enrolled, so that a threshold is of one gallery: set it again when many have come.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import GalleryError, InputError
from gaitedge.people.enrolment import normal_name
from gaitedge.people.identification import distances

__all__ = [
    "OperatingPoint",
    "Rate",
    "Scores",
    "check_support",
    "find_operating_point",
    "rate",
    "score_probes",
]

CONFIDENCE = 0.95
RESAMPLES = 2000
PROBE_BLOCK = 256  # against 100,000 embeddings: 100 MB of distances


class Labelled(Protocol):
    """A walk of which is known whose it is; a Record of a gallery and a Source of a store are."""

    @property
    def subject(self) -> str | None: ...
    @property
    def condition(self) -> str | None: ...
    @property
    def view(self) -> str | None: ...


@dataclass(frozen=True)
class Rate:
    """How often something happened, with its confidence interval."""

    rate: float
    low: float
    high: float
    count: int
    """At how many probes it happened."""
    probes: int
    subjects: int
    """Whose probes these are."""


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it costs; kept as JSON in the gallery beside the threshold."""

    distance: float
    """The threshold: a probe whose nearest person is farther is nobody's."""
    wished: float
    """The false-accept rate that was asked for."""
    false_accept: Rate
    """Of probes of people whom the gallery does not know, those that were named."""
    false_reject: Rate | None
    """Of probes of enrolled people, those that were not named rightly: unknown, or somebody else. None
    where the probes are of none of them."""
    misidentified: int
    """Of those, how many were named as somebody else."""
    left_out: int
    """Of the impostors, people who are enrolled and were left out of the gallery for their own probes."""
    gallery_subjects: int
    gallery_sequences: int
    confidence: float
    """Of the intervals."""
    resamples: int
    seed: int

    def details(self) -> dict[str, Any]:
        """Flat JSON for Gallery.set_operating_point: `false_accept_rate`, `false_accept_low` and so on."""
        flat: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in _RATES:
                parts = [part.name for part in dataclasses.fields(Rate)]
                flat |= {f"{field.name}_{part}": value and getattr(value, part) for part in parts}
            else:
                flat[field.name] = value
        return flat

    @classmethod
    def from_details(cls, details: Mapping[str, Any]) -> OperatingPoint:
        """Read what `details` gave. Raises GalleryError where it is something else."""
        values = dict(details)
        try:
            for name in _RATES:
                parts = {field.name: values.pop(f"{name}_{field.name}") for field in dataclasses.fields(Rate)}
                values[name] = None if parts["rate"] is None else Rate(**parts)
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise GalleryError(
                f"the gallery's operating point cannot be read ({error}); set it anew: gaitedge threshold"
            ) from None


_RATES = ("false_accept", "false_reject")


@dataclass(frozen=True, eq=False)
class Scores:
    """How far n probes are from the gallery's people."""

    subjects: NDArray[np.intp]
    """[n]: whose each probe is, as a number."""
    enrolled: NDArray[np.bool_]
    """[n]: whether that person is in the gallery."""
    genuine: NDArray[np.float64]
    """[n]: to their own nearest sequence; infinite where there is none but the probe's own recording."""
    impostor: NDArray[np.float64]
    """[n]: to the nearest sequence of anybody else, as if they were not enrolled themselves."""


def score_probes(
    probes: NDArray[np.float32],
    walks: Sequence[Labelled],
    gallery: NDArray[np.float32],
    records: Sequence[Labelled],
) -> Scores:
    """Compare probes [n, parts, dim] with a gallery [g, parts, dim]; walks and records say whose they are.

    Every probe gives an impostor's distance: that of a person who is not enrolled to the gallery, and
    that of one who is to the gallery without that person (leave one subject out). A probe's genuine
    distance leaves out sequences of its own subject, condition and view: they may be the very recording.
    Raises InputError where a probe does not say whose it is.
    """
    for number, walk in enumerate(walks, 1):
        if walk.subject is None:
            raise InputError(f"probe {number} does not say who walks there; use a store")
    numbers: dict[Any, int] = {}
    owners = np.array([numbers.setdefault(_name(record), len(numbers)) for record in records], np.intp)
    subjects = np.array([numbers.setdefault(_name(walk), len(numbers)) for walk in walks], np.intp)
    recordings = np.array([numbers.setdefault(_recording(one), len(numbers)) for one in records], np.intp)
    recorded = np.array([numbers.get(_recording(walk), -1) for walk in walks], np.intp)
    genuine, impostor = np.empty(len(walks)), np.empty(len(walks))
    for start in range(0, len(walks), PROBE_BLOCK):
        here = slice(start, start + PROBE_BLOCK)
        between = distances(probes[here], gallery)
        own = subjects[here, None] == owners
        impostor[here] = np.where(own, np.inf, between).min(axis=1, initial=np.inf)
        own &= recorded[here, None] != recordings
        genuine[here] = np.where(own, between, np.inf).min(axis=1, initial=np.inf)
    return Scores(subjects, np.isin(subjects, owners), genuine, impostor)


def find_operating_point(
    probes: NDArray[np.float32],
    walks: Sequence[Labelled],
    gallery: NDArray[np.float32],
    records: Sequence[Labelled],
    false_accept_rate: float = 0.01,
    seed: int = 0,
    allow_few: bool = False,
) -> OperatingPoint:
    """The largest threshold at which no larger share of the impostors' probes is accepted than wished.

    probes, walks, gallery and records as `score_probes` takes them. The intervals are of 95 % and say
    what other people would give against this gallery at this threshold: see `rate`.

    A rate that the probes' people are too few to support is refused as `check_support` says. Raises
    InputError then, and where there is nobody to take for an impostor.
    """
    scores = score_probes(probes, walks, gallery, records)
    compared = np.isfinite(scores.impostor)
    impostor, impostors = scores.impostor[compared], scores.subjects[compared]
    if not len(impostor):
        raise InputError(
            "nobody can be taken for an impostor: that takes somebody enrolled, and a probe of somebody else"
        )
    check_support(false_accept_rate, len(np.unique(impostors)), allow_few)
    distance = _threshold(impostor, false_accept_rate)
    known = np.isfinite(scores.genuine)
    genuine, other = scores.genuine[known], scores.impostor[known]
    # Of equal distances the one enrolled first is named: counted as a mistake here, which it may be.
    mistaken = (other <= genuine) & (other <= distance)
    return OperatingPoint(
        distance=distance,
        wished=false_accept_rate,
        false_accept=rate(impostor <= distance, impostors, seed),
        false_reject=rate((genuine > distance) | mistaken, scores.subjects[known], seed)
        if known.any()
        else None,
        misidentified=int(mistaken.sum()),
        left_out=len(np.unique(scores.subjects[compared & scores.enrolled])),
        gallery_subjects=len({record.subject for record in records}),
        gallery_sequences=len(records),
        confidence=CONFIDENCE,
        resamples=RESAMPLES,
        seed=seed,
    )


def check_support(false_accept_rate: float, people: int, allow_few: bool = False) -> None:
    """Raise InputError for a rate that is none, or, unless allow_few, for which people are too few.

    Probes of one person resemble each other, so that it is people who count. Where n of them were
    tried and none was accepted falsely, the rate is known to 95 % to be below 3 / n, no more (rule of
    three; Hanley and Lippman-Hand, JAMA 249, 1983). A rate below that is not to be had from them.
    """
    if not 0 < false_accept_rate < 1:
        raise InputError(f"a false-accept rate is more than 0 and less than 1, not {false_accept_rate}")
    needed = math.ceil(round(min(3 / false_accept_rate, 1e15), 6))  # the smallest rates would be infinite
    if people < needed and not allow_few:
        possible = math.ceil(300 / people) / 100 if people else 1
        wish = f"wish for a rate of {possible:g} or more, " if possible < 1 else ""
        raise InputError(
            f"a false-accept rate of {false_accept_rate:g} needs walks of {needed} people (rule of three, "
            f"3 / rate), these are of {people}; {wish}give more people, or take what they say: --allow-few"
        )


def rate(events: NDArray[np.bool_], subjects: NDArray[np.intp], seed: int = 0) -> Rate:
    """The share of probes [n] at which something happened, with its interval of 95 %; n at least 1.

    The interval is a percentile bootstrap over subjects (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 13.3): each resample draws as many people as there are, with all the probes of each. The
    probes of a person share body and gait, and drawing probes instead would pretend to as many people.
    Where all probes came out alike no resample differs; then it is Clopper's and Pearson's bound for as
    many independent trials as there are people. The gallery's people are not drawn again.
    """
    _, owner = np.unique(subjects, return_inverse=True)
    happened, asked = np.bincount(owner, events), np.bincount(owner)
    count, value = len(asked), float(events.mean())
    tail = (1 - CONFIDENCE) / 2
    beyond = 1 - tail ** (1 / count)
    if value in (0, 1):
        low, high = (0.0, beyond) if value == 0 else (1 - beyond, 1.0)
    else:
        random = np.random.default_rng(seed)
        shares = np.empty(RESAMPLES)
        for number in range(RESAMPLES):
            drawn = random.integers(0, count, count)
            shares[number] = happened[drawn].sum() / asked[drawn].sum()
        low, high = (0.0, 1.0) if count == 1 else np.quantile(shares, [tail, 1 - tail]).tolist()
    return Rate(value, low, high, int(events.sum()), len(events), count)


def _threshold(impostor: NDArray[np.float64], wished: float) -> float:
    """The middle between the last impostor's distance that is accepted and the first that is not."""
    ordered = np.sort(impostor)
    first_out = ordered[math.floor(len(ordered) * wished + 1e-9)]
    within = ordered[ordered < first_out]
    if len(within):
        return float((within[-1] + first_out) / 2)
    if first_out == 0:
        raise InputError(
            "impostors are at a distance of 0 from the gallery: is somebody enrolled under another name?"
        )
    return float(np.nextafter(np.float32(first_out), np.float32(0)))  # just below: not one is accepted


def _name(walk: Labelled) -> str:
    return normal_name(str(walk.subject))


def _recording(walk: Labelled) -> object:
    """Equal for sequences that may be one recording; for those that do not say, to itself alone."""
    known = walk.condition is not None and walk.view is not None
    return (_name(walk), walk.condition, walk.view) if known else object()
