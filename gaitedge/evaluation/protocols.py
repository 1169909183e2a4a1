"""The two protocols of Sec. 4.1: which sequences are the gallery, and which are probes."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gaitedge.errors import InputError

__all__ = [
    "CASIA_B",
    "OU_MVLP",
    "PROTOCOLS",
    "Protocol",
    "Selection",
    "Walk",
    "choose_protocol",
    "either",
    "select",
]


class Walk(typing.Protocol):
    """What a protocol needs to know of a sequence; gaitedge.data.store.Sequence is one."""

    @property
    def subject(self) -> str:
        """Who walks."""
        ...

    @property
    def condition(self) -> str:
        """How and the how-manieth time, such as "nm-01"; of OU-MVLP the recording, "00" or "01"."""
        ...

    @property
    def view(self) -> str:
        """The camera's angle in degrees, such as "090"."""
        ...


@dataclass(frozen=True)
class Protocol:
    """What is compared with what. Identical views are excluded in all of them."""

    name: str
    title: str
    """The data set's name."""
    gallery: tuple[str, ...]
    """Conditions of the gallery."""
    probes: Mapping[str, tuple[str, ...]]
    """Name of a probe set -> its conditions."""
    views: tuple[str, ...]
    """All the views that the data set has."""


CASIA_B = Protocol(
    name="casia-b",
    title="CASIA-B",
    gallery=("nm-01", "nm-02", "nm-03", "nm-04"),
    probes={"NM": ("nm-05", "nm-06"), "BG": ("bg-01", "bg-02"), "CL": ("cl-01", "cl-02")},
    views=tuple(f"{angle:03d}" for angle in range(0, 181, 18)),
)
OU_MVLP = Protocol(
    name="oumvlp",
    title="OU-MVLP",
    gallery=("01",),
    probes={"NM": ("00", "02")},  # the files say 00, the paper #02: a set holds either
    views=tuple(f"{angle:03d}" for angle in (*range(0, 91, 15), *range(180, 271, 15))),
)
PROTOCOLS = {protocol.name: protocol for protocol in (CASIA_B, OU_MVLP)}
"""Name -> protocol."""


@dataclass(frozen=True)
class Selection:
    """What a protocol takes of a list of sequences, by their numbers in it."""

    gallery: list[int]
    probes: list[int]
    sets: list[str]
    """The probe set of each probe."""
    views: tuple[str, ...]
    """Of the gallery or of probes, sorted."""


def choose_protocol(name: str, conditions: Iterable[str]) -> Protocol:
    """The protocol of a name, or with "auto" the one that knows the conditions.

    Raises InputError for an unknown name, and with "auto" where the conditions are of neither protocol
    or of both.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    known = " and ".join(PROTOCOLS)
    if name != "auto":
        raise InputError(f"unknown protocol {name!r}; there are {known}, and auto")
    present = sorted(set(conditions))
    fitting = [protocol for protocol in PROTOCOLS.values() if not _conditions(protocol).isdisjoint(present)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(f"there are conditions of both protocols, {known}: say which one to evaluate by")
    galleries = " and ".join(f"{either(each.gallery)} ({each.title})" for each in PROTOCOLS.values())
    shown = ", ".join(present[:8]) + (", …" if len(present) > 8 else "") if present else "none"
    raise InputError(f"no gallery for either protocol: it is {galleries}, the conditions are {shown}")


def select(walks: Sequence[Walk], protocol: Protocol) -> Selection:
    """What a protocol takes of these sequences; those of other conditions do not count.

    Raises InputError where there is nothing to measure: no gallery, no probes, or a single view.
    """
    set_of = {condition: name for name, conditions in protocol.probes.items() for condition in conditions}
    gallery = [number for number, walk in enumerate(walks) if walk.condition in protocol.gallery]
    probes = [number for number, walk in enumerate(walks) if walk.condition in set_of]
    if not gallery:
        raise InputError(
            f"no gallery for {protocol.title}'s protocol: there is no {either(protocol.gallery)}"
        )
    if not probes:
        raise InputError(f"no probes for {protocol.title}'s protocol: there is no {either(list(set_of))}")
    views = tuple(sorted({walks[number].view for number in (*gallery, *probes)}))
    if len(views) < 2:
        raise InputError(
            f"only view {views[0]}: {protocol.title}'s protocol leaves identical views out, so needs 2"
        )
    return Selection(gallery, probes, [set_of[walks[number].condition] for number in probes], views)


def either(names: Sequence[str]) -> str:
    """Names as a list in a sentence: "a, b or c"."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _conditions(protocol: Protocol) -> set[str]:
    return {*protocol.gallery, *(name for names in protocol.probes.values() for name in names)}
