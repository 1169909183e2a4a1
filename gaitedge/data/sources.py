"""Where the walks that are enrolled or identified come from."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from gaitedge.data.silhouettes import Silhouettes, read_folder, read_pickle, take_sequence
from gaitedge.data.store import Store, is_store
from gaitedge.errors import InputError, SilhouetteError, StoreError

__all__ = ["LEAST_FRAMES", "Source", "open_source", "open_sources"]

LEAST_FRAMES = 15
"""A walk of fewer frames is discarded (Sec. 3.4): half a step says nothing of a gait."""

_POSSIBLE = "a folder of silhouette PNGs, STORE:007/nm-01/090 for a sequence of a store, or an OpenGait .pkl"


@dataclass(frozen=True, eq=False)
class Source:
    """One walk, ready for an engine."""

    silhouettes: Silhouettes
    """[frames, 64, 44], uint8."""
    description: str
    """Where it came from, and how many frames were left out."""
    subject: str | None = None
    """Who walks there, where a store says so."""
    condition: str | None = None
    view: str | None = None


def open_source(text: str | Path, minimum: int = LEAST_FRAMES) -> Source:
    """Open what holds exactly one walk; as open_sources otherwise."""
    sources = open_sources(text, minimum)
    if len(sources) > 1:
        raise InputError(f"{text} holds {len(sources)} walks, must be one, such as {sources[0].description}")
    return sources[0]


def open_sources(text: str | Path, minimum: int = LEAST_FRAMES) -> list[Source]:
    """Open the walks that `text` names; one or more.

    text: a folder of PNGs, raw of any one size, or of 64×44 or 64×64 pixels, which count as aligned
    already; an OpenGait pickle; a store, STORE for all of its walks, STORE:007, STORE:007/nm or
    STORE:007/nm-01/090 for some, where * stands for any text and ? for any character. minimum: frames
    that a walk must have; of several walks of a store the shorter ones are left out.
    Raises InputError where there is nothing of the kind, SilhouetteError where an image or a pickle
    is not usable or the walk is too short, StoreError where the store is not usable.
    """
    path = Path(text)
    if is_store(path):
        return _from_store(path, "", minimum)
    if path.is_dir():
        return [_long_enough(_from_folder(path), minimum)]
    if path.suffix.lower() == ".pkl":
        return [_long_enough(Source(read_pickle(path), str(path)), minimum)]
    if path.exists():
        raise InputError(f"{path} is no source of a walk: give {_POSSIBLE}")
    store, colon, pattern = str(text).rpartition(":")
    if colon and store:
        return _from_store(Path(store), pattern, minimum)
    raise InputError(f"nothing at {text}: give {_POSSIBLE}")


def _from_folder(path: Path) -> Source:
    frames = read_folder(path)
    try:
        silhouettes, dropped = take_sequence(frames)
    except SilhouetteError as error:
        raise SilhouetteError(f"{path}: {error}") from None
    note = f" ({len(dropped)} of {len(frames)} frames left out)" if dropped else ""
    return Source(silhouettes, f"{path}{note}")


def _from_store(path: Path, pattern: str, minimum: int) -> list[Source]:
    store = Store(path)
    parts = pattern.split("/") if pattern else []
    if len(parts) > 3:
        raise InputError(
            f"{pattern!r} is no sequence of a store: SUBJECT/CONDITION/VIEW, such as 007/nm-01/090"
        )
    parts = [*parts, "", "", ""][:3]
    exact = [[part] if part and not _is_pattern(part) else None for part in parts]
    patterns = [part.replace("[", "[[]") if _is_pattern(part) else "*" for part in parts]
    numbers = [
        number
        for number in store.select(*exact)
        if all(map(fnmatchcase, store.sequences[number].name.split("/"), patterns))
    ]
    if not numbers:
        if all(exact):
            store.find(pattern)  # says what there is instead
        raise StoreError(f"no sequence matches {pattern!r} in the store {path}")
    sources = []
    for number in numbers:
        sequence = store.sequences[number]
        sources.append(
            Source(
                store[number],
                f"{path}:{sequence.name}",
                sequence.subject,
                sequence.condition,
                sequence.view,
            )
        )
    enough = [source for source in sources if len(source.silhouettes) >= minimum]
    return enough or [_long_enough(sources[0], minimum)]


def _is_pattern(text: str) -> bool:
    return "*" in text or "?" in text


def _long_enough(source: Source, minimum: int) -> Source:
    frames = len(source.silhouettes)
    if frames < minimum:
        raise SilhouetteError(
            f"{source.description}: {frames} usable frames, a walk needs {minimum} or more to be recognised"
        )
    return source
