"""The enrolled people as they were last read: a gallery that is locked or being changed stops no camera."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import GaitEdgeError, GalleryError, one_line
from gaitedge.people.gallery import Gallery, Record
from gaitedge.people.identification import Identification, rank
from gaitedge.people.search import Index, build_index

__all__ = ["Enrolled"]

_JOIN_S = 0.5  # a thread that waits for a lock for longer is left behind; it changes nothing


@dataclass(frozen=True, eq=False)
class _State:
    embeddings: NDArray[np.float32]
    records: Sequence[Record]
    index: Index | None  # None while nobody is enrolled
    threshold: float | None


class Enrolled:
    """A gallery that is read again, by a thread of its own, whenever it was changed; a context manager.

    fingerprint: of the model; key: of an encrypted gallery; threshold: instead of the gallery's own;
    pause: seconds between two looks at the file. Entering reads it, and raises GalleryError where it is
    missing, another model's or empty, MachineError where it is locked. Later nothing is raised: what was
    read last is kept, `news` says so once, and the file is tried again.
    """

    def __init__(
        self,
        path: Path | str,
        fingerprint: str,
        key: bytes | None = None,
        threshold: float | None = None,
        pause: float = 1.0,
    ) -> None:
        self.path = Path(path)
        self._fingerprint, self._key, self._asked, self._pause = fingerprint, key, threshold, pause
        self._state: _State | None = None
        self._trouble: str | None = None
        self._news: deque[tuple[str, str]] = deque(maxlen=100)
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._run, name=f"reader of {self.path}", daemon=True)

    def __enter__(self) -> Enrolled:
        with self._open() as gallery:
            self._state = state = self._read(gallery)
        if not state.records:
            raise GalleryError(f"nobody is enrolled in {self.path}; enrol somebody first")
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._reader.join(_JOIN_S)

    @property
    def threshold(self) -> float | None:
        """The distance beyond which a walk is nobody's."""
        return self._now().threshold

    def identify(self, probe: NDArray[np.float32]) -> Identification | None:
        """The two nearest people to an embedding [parts, dim]; None while nobody is enrolled any more."""
        state = self._now()
        if state.index is None:
            return None
        return rank(state.embeddings, state.records, state.index, probe, 2, state.threshold)

    def news(self) -> list[tuple[str, str]]:
        """What happened to the gallery since the last call: events, each with a line that explains it."""
        return [self._news.popleft() for _ in range(len(self._news))]

    def refresh(self, gallery: Gallery) -> None:
        """Read an opened gallery again if it was changed; on trouble keep what is known, and say so once."""
        try:
            state = self._read(gallery)
        except GaitEdgeError as error:
            self._failed(error)
            return
        if self._trouble is not None:
            self._trouble = None
            self._news.append(("gallery back", f"{self.path} can be read again"))
        before, self._state = self._now(), state
        if state.index is not before.index or state.threshold != before.threshold:
            people = len({record.subject for record in state.records})
            self._news.append(
                ("gallery changed", f"{self.path}: {people} people, {len(state.records)} walks enrolled")
            )

    def _run(self) -> None:
        while not self._closing.wait(self._pause):
            self._follow()

    def _follow(self) -> None:
        """Look at the file again and again, until it is another one or the end."""
        try:
            with self._open() as gallery:  # a connection belongs to the thread that made it
                number = self._number()
                while number is not None and number == self._number():
                    self.refresh(gallery)
                    if self._closing.wait(self._pause):
                        return
        except GaitEdgeError as error:
            self._failed(error)

    def _number(self) -> tuple[int, int] | None:
        """Which file stands at the path; None where there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _open(self) -> Gallery:
        return Gallery.open(self.path, self._fingerprint, self._key)

    def _failed(self, error: GaitEdgeError) -> None:
        if self._trouble is None:
            self._trouble = one_line(error)
            self._news.append(("gallery trouble", f"{self._trouble}; those known before are still known"))

    def _read(self, gallery: Gallery) -> _State:
        embeddings, records = gallery.embeddings()
        threshold = gallery.threshold if self._asked is None else self._asked
        before = self._state
        if before is not None and (
            embeddings is before.embeddings
            or (records == before.records and np.array_equal(embeddings, before.embeddings))
        ):
            return _State(embeddings, records, before.index, threshold)
        index = build_index(embeddings, [record.subject for record in records]) if records else None
        return _State(embeddings, records, index, threshold)

    def _now(self) -> _State:
        if self._state is None:
            raise ValueError("enter it before you ask who is enrolled")
        return self._state
