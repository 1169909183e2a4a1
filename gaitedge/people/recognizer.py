"""On-device recognition: a bundle, a gallery, and the walks of people."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.data.sources import Source, open_sources
from gaitedge.engines import embed_all, load
from gaitedge.errors import GaitEdgeError, InputError
from gaitedge.files import sync_folder, unfinished
from gaitedge.people.explain import check_picture, explain
from gaitedge.people.gallery import Enrolment, Gallery
from gaitedge.people.identification import Identification, identify, suggest_threshold
from gaitedge.people.threshold import OperatingPoint, check_support, find_operating_point

__all__ = ["Identified", "Recognizer"]

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # what file systems without them say


@dataclass(frozen=True)
class Identified:
    """Who one walk may be."""

    source: str
    """Where the walk came from."""
    frames: int
    """Silhouettes that the embedding is made of."""
    subject: str | None
    """Who walks there, where the source says so: a store does, a folder of images does not."""
    condition: str | None
    view: str | None
    identification: Identification


class Recognizer:
    """Enrols and identifies people by their walk, with one bundle's engine and one gallery file.

    bundle: a .gait file or one already opened; gallery: a file, made at the first enrolment;
    engine, threads and precision as gaitedge.engines.load takes them; key: of an encrypted gallery, and a
    new one is made with it (gaitedge.people.encryption.find_key). Raises BundleError,
    GalleryError or MachineError as opening these does.
    """

    def __init__(
        self,
        bundle: Path | str | Bundle,
        gallery: Path | str,
        engine: str = "auto",
        threads: int | None = None,
        precision: str | None = None,
        key: bytes | None = None,
    ) -> None:
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle))
        self.gallery_path, self._key = Path(gallery), key
        if self.gallery_path.exists():  # refuse another model's gallery before an engine is built
            Gallery.open(self.gallery_path, opened.fingerprint, key).close()
        self.engine = load(opened, engine, threads=threads, precision=precision)

    def embed(
        self,
        silhouettes: Sequence[NDArray[np.uint8]],
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Embed walks of any lengths, each uint8 [frames, 64, 44], to [walks, parts, dim]."""
        return embed_all(self.engine, silhouettes, progress=progress)

    def enroll(
        self,
        source: str | Path | Sequence[str | Path],
        subject: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        set_threshold: bool = False,
    ) -> list[Enrolment]:
        """Enrol the walks of one or more sources, all of them or none; returns what was enrolled.

        source: as gaitedge.data.sources.open_sources takes it, or several of them. subject: who walks
        there; may be left out where the source is a store, which knows. set_threshold: also set the
        gallery's threshold by all that is then enrolled, as the method of that name does. On any error
        the gallery stays as it was, and where there was none there is none. Raises InputError where
        nobody is named or no threshold can be set.
        """
        sources = _open(source)
        for walk in sources:
            if subject is None and walk.subject is None:
                raise InputError(
                    f"{walk.description} does not say who walks there; name the person with --id"
                )
        embeddings = self.embed([walk.silhouettes for walk in sources], progress)
        enrolments = [
            Enrolment(
                subject if subject is not None else str(walk.subject),
                embedding,
                walk.condition,
                walk.view,
                len(walk.silhouettes),
                walk.description,
            )
            for walk, embedding in zip(sources, embeddings, strict=True)
        ]

        def enroll(gallery: Gallery) -> None:
            with gallery.all_or_nothing():
                gallery.enroll_many(enrolments)
                if set_threshold:
                    gallery.threshold = suggest_threshold(*_named(gallery))

        self._change(enroll)
        return enrolments

    def identify(
        self,
        source: str | Path | Sequence[str | Path],
        top: int = 5,
        threshold: float | None = None,
        progress: Callable[[int, int], None] | None = None,
        explanation: Path | str | None = None,
    ) -> list[Identified]:
        """Name the people who walk in one or more sources, one result a walk.

        top: people to name at most; threshold: the distance beyond which a walk is nobody's, the
        gallery's own where None. explanation: a PNG to draw, which shows the parts' distances over a
        silhouette (`gaitedge.people.explain`); for one walk. Raises InputError where there are more.
        """
        if explanation is not None:
            check_picture(Path(explanation))
        with Gallery.open(self.gallery_path, self.engine.fingerprint, self._key) as gallery:
            sources = _open(source)
            if explanation is not None and len(sources) > 1:
                raise InputError(
                    f"an explanation is drawn of one walk, not of {len(sources)}; "
                    f"choose one, such as {sources[0].description}"
                )
            embeddings = self.embed([walk.silhouettes for walk in sources], progress)
            if explanation is not None:
                found = identify(gallery, embeddings[0], 2, threshold)
                explain(sources[0].silhouettes, found, Path(explanation))
            return [
                Identified(
                    walk.description,
                    len(walk.silhouettes),
                    walk.subject,
                    walk.condition,
                    walk.view,
                    identify(gallery, embedding, top, threshold),
                )
                for walk, embedding in zip(sources, embeddings, strict=True)
            ]

    def set_operating_point(
        self,
        source: str | Path | Sequence[str | Path],
        false_accept_rate: float = 0.01,
        seed: int = 0,
        allow_few: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> OperatingPoint:
        """Set the gallery's threshold by a false-accept rate, and return what it costs.

        source: a store's walks of many people, enrolled or not, such as will be identified. The other
        arguments, and what is raised, as gaitedge.people.threshold.find_operating_point has them.
        """
        with Gallery.open(self.gallery_path, self.engine.fingerprint, self._key) as gallery:
            walks = _open(source)
            for walk in walks:  # all that can be refused before the slow part
                _check_named(walk)
            check_support(false_accept_rate, len({walk.subject for walk in walks}), allow_few)
            enrolled, records = gallery.embeddings()
            embeddings = self.embed([walk.silhouettes for walk in walks], progress)
            point = find_operating_point(
                embeddings, walks, enrolled, records, false_accept_rate, seed, allow_few
            )
            gallery.set_operating_point(point.distance, point.details())
        return point

    def set_threshold(
        self,
        source: str | Path | Sequence[str | Path] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> float:
        """Set the gallery's threshold by gaitedge.people.identification.suggest_threshold, and return it.

        source: walks of several people, enrolled or not, that differ from each other as the walks to
        be identified will differ from the enrolled ones; the gallery's own walks where None.
        """
        with Gallery.open(self.gallery_path, self.engine.fingerprint, self._key) as gallery:
            if source is None:
                embeddings, subjects = _named(gallery)
            else:
                walks = _open(source)
                for walk in walks:
                    _check_named(walk)
                subjects = [str(walk.subject) for walk in walks]
                embeddings = self.embed([walk.silhouettes for walk in walks], progress)
            gallery.threshold = threshold = suggest_threshold(embeddings, subjects)
            return threshold

    def _change(self, change: Callable[[Gallery], None]) -> None:
        """Change the gallery. A new one takes its name only once that is done."""
        path, config = self.gallery_path, self.engine.config
        model = self.engine.fingerprint, config.parts, config.embedding_dim
        if not path.exists() and path.parent.is_dir():
            with unfinished(path) as part:
                try:
                    with Gallery.create(part, *model, self._key) as gallery:
                        change(gallery)
                    os.link(part, path)  # unlike a rename it never replaces another process's gallery
                    sync_folder(path.parent)
                    return
                except GaitEdgeError as error:
                    raise type(error)(str(error).replace(str(part), str(path))) from None
                except OSError as error:
                    if not isinstance(error, FileExistsError) and error.errno not in _NO_LINKS:
                        raise
        with Gallery.open_or_create(path, *model, self._key) as gallery:
            change(gallery)


def _check_named(walk: Source) -> None:
    if walk.subject is None:
        raise InputError(f"{walk.description} does not say who walks there; use a store")


def _named(gallery: Gallery) -> tuple[NDArray[np.float32], list[str]]:
    embeddings, records = gallery.embeddings()
    return embeddings, [record.subject for record in records]


def _open(source: str | Path | Sequence[str | Path]) -> list[Source]:
    several = [source] if isinstance(source, (str, Path)) else source
    return [walk for one in several for walk in open_sources(one)]
