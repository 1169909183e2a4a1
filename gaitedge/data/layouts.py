"""How data sets of gait lie on the disk, and every sequence that such a folder holds.

casia-b    ID/COND/VIEW/*.png                 007/nm-01/090/007-nm-01-090-001.png
oumvlp     Silhouette_VIEW-SEQ/ID/*.png       Silhouette_090-00/00001/0001.png
opengait   ID/TYPE/VIEW/*.pkl                 007/nm-01/090/090.pkl, aligned already
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gaitedge.data.images import Frame, list_images, natural, read_image, same_size
from gaitedge.data.silhouettes import Silhouettes, nothing_left, read_pickle, take_sequence
from gaitedge.errors import InputError, SilhouetteError

__all__ = ["LAYOUTS", "RawSequence", "find_sequences"]

LAYOUTS = {
    "casia-b": "ID/COND/VIEW/*.png, such as 007/nm-01/090/001.png",
    "oumvlp": "Silhouette_VIEW-SEQ/ID/*.png, such as Silhouette_090-00/00001/0001.png",
    "opengait": "ID/TYPE/VIEW/*.pkl, such as 007/nm-01/090/090.pkl",
}
"""Name of a layout -> what it looks like."""

_WORD = re.compile(r"[\w.-]+")
_LEVELS = {
    "casia-b": (_WORD, re.compile(r"[A-Za-z]+-\d+"), re.compile(r"\d{3}")),
    "oumvlp": (re.compile(r"Silhouette_(\d{3})-(\d{2})"), re.compile(r"\d{5}")),
    "opengait": (_WORD, _WORD, _WORD),
}


@dataclass(frozen=True)
class RawSequence:
    """One sequence of a data set as it lies on the disk."""

    subject: str
    condition: str
    view: str
    path: Path  # the folder of its frames or of its pickle

    @property
    def name(self) -> str:
        """Such as "007/nm-01/090"."""
        return f"{self.subject}/{self.condition}/{self.view}"

    def read(self) -> tuple[Silhouettes, dict[str, str]]:
        """Read and align it: [frames, 64, 44], and file name -> reason of all that was left out.

        A damaged image is left out like a frame that shows nobody. PNG frames of 64×44 and 64×64
        pixels count as aligned already. Raises SilhouetteError where no frame is usable, where the
        frames are of several sizes, and where a pickle is refused.
        """
        files, others = list_images(self.path)
        pickles = [name for name in others if name.endswith(".pkl")]
        dropped = {name: "not a PNG file" for name in others if name not in pickles}
        if pickles and files:
            raise SilhouetteError(f"{self.path} holds PNG files and pickles: remove either")
        if len(pickles) > 1:
            raise SilhouetteError(
                f"{self.path} holds {len(pickles)} pickles, {pickles[0]} and others: must hold one"
            )
        if pickles:
            return read_pickle(self.path / pickles[0]), dropped
        if not files:
            raise SilhouetteError(f"{self.path} holds no frame")
        frames: list[Frame] = []
        kept: list[Path] = []
        for file in files:
            frame = _read_or_reason(file)
            if isinstance(frame, str):
                dropped[file.name] = frame
                continue
            frames.append(frame)
            kept.append(file)
            same_size(frames[0], kept[0], frame, file)
        if not frames:
            raise SilhouetteError(f"{self.path}: {nothing_left(list(dropped.values()))}")
        try:
            silhouettes, unusable = take_sequence(frames)
        except SilhouetteError as error:
            raise SilhouetteError(f"{self.path}: {error}") from None
        dropped.update({kept[number].name: reason for number, reason in unusable.items()})
        return silhouettes, dropped


def find_sequences(raw: str | Path, layout: str) -> list[RawSequence]:
    """Every sequence under the folder `raw`, in order of subject, condition and view.

    layout: a key of LAYOUTS. Files above the sequences' own folders and hidden folders are passed
    over. A folder without frames counts: reading it says so. Raises InputError, naming what was
    expected and what was found, where the folder does not look like the layout.
    """
    raw = Path(raw)
    if layout not in LAYOUTS:
        raise InputError(f"no layout {layout!r}: choose one of {', '.join(LAYOUTS)}")
    if not raw.is_dir():
        raise InputError(f"no folder at {raw}")
    sequences = []
    for path, names in _walk(raw, layout, ()):
        if layout == "oumvlp":
            view, recording = names[0].removeprefix("Silhouette_").split("-")
            sequences.append(RawSequence(names[1], recording, view, path))
        else:
            subject, condition, view = names
            sequences.append(RawSequence(subject, condition, view, path))
    if not sequences:
        raise InputError(f"{_expected(raw, layout)}, it holds {_sample(raw)}")
    _check_first(raw, layout, sequences[0].path)
    return sorted(sequences, key=lambda sequence: (sequence.subject, sequence.condition, sequence.view))


def _walk(folder: Path, layout: str, names: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The folders at the depth of the layout's sequences, each with the names that lead to it."""
    level = _LEVELS[layout][len(names)]
    for entry in sorted(folder.iterdir(), key=lambda entry: natural(entry.name)):
        if entry.name.startswith(".") or not entry.is_dir():
            continue
        if not level.fullmatch(entry.name):
            top = entry.parents[len(names)]
            raise InputError(f"{_expected(top, layout)}, {entry.relative_to(top)} does not fit")
        path = (*names, entry.name)
        if len(path) == len(_LEVELS[layout]):
            yield entry, path
        else:
            yield from _walk(entry, layout, path)


def _check_first(raw: Path, layout: str, path: Path) -> None:
    """Raise InputError where the first sequence shows that the folder is of another layout."""
    expected = ".pkl" if layout == "opengait" else ".png"
    entries = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
    if entries and not any(entry.suffix.lower() == expected for entry in entries):
        other = next((name for name in LAYOUTS if _resembles(name, raw, entries[0])), None)
        hint = f" as in the layout {other}" if other else ""
        raise InputError(f"{_expected(raw, layout)}, it holds {entries[0].relative_to(raw)}{hint}")


def _resembles(layout: str, raw: Path, file: Path) -> bool:
    *names, last = file.relative_to(raw).parts
    levels = _LEVELS[layout]
    return (
        len(names) == len(levels)
        and all(level.fullmatch(name) for level, name in zip(levels, names, strict=True))
        and last.endswith(".pkl" if layout == "opengait" else ".png")
    )


def _expected(raw: Path, layout: str) -> str:
    return f"{raw} is not of the layout {layout}: expected {LAYOUTS[layout]}"


def _sample(folder: Path) -> str:
    """The way to the first file under a folder, to show what it holds."""
    path = folder
    for _ in range(8):  # a link may lead back to where it stands
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        if not entries:
            break
        path = entries[0]
        if not path.is_dir():
            break
    if path == folder:
        return "nothing"
    found = str(path.relative_to(folder))
    packed = path.name.endswith((".zip", ".tar", ".tar.gz", ".tgz", ".rar", ".7z"))
    return f"{found}: unpack it first" if packed else found


def _read_or_reason(file: Path) -> Frame | str:
    try:
        return read_image(file)
    except SilhouetteError as error:
        return str(error).removeprefix(f"{file}: ")
