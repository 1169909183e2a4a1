"""Reading raw silhouettes from PNG files, whatever their bits and palette, and nothing else."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import SilhouetteError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Frame", "list_images", "natural", "read_folder", "read_image", "same_size"]

Frame = NDArray[np.uint8]
"""One raw silhouette, [height, width], 0 the background and 255 the person."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_PIXELS = 1 << 24  # 4096×4096: more is a decompression bomb, or no silhouette
_MOST_BYTES = 64 << 20
_IGNORED = frozenset({"thumbs.db", "desktop.ini"})  # left behind by file managers
_AS_GREY = "save it as an 8-bit or 1-bit grey PNG, the person 255 and the background 0"


def read_image(path: str | Path) -> Frame:
    """Read one raw silhouette from a PNG: [height, width], uint8, 0 to 255.

    Taken are 1-bit and 8-bit grey images, and palette and RGB images all of whose pixels are grey,
    as copies of CASIA-B and OU-MVLP are. Raises SilhouetteError, naming the file, for images of
    colours, of 16 bits or with transparency, for other formats, truncated files and files of more
    than 4096×4096 pixels.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise SilhouetteError(f"it has more than {_MOST_BYTES >> 20} MiB")
        return _decode(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise SilhouetteError(f"{path}: {error.strerror}") from None
    except SilhouetteError as error:
        raise SilhouetteError(f"{path}: {error}") from None


def read_folder(path: str | Path) -> list[Frame]:
    """Read the PNG files of one folder, in natural order of their names: 2.png before 10.png.

    Raises SilhouetteError where there is none, where one cannot be read, and where they are not all
    of one size.
    """
    files, others = list_images(path)
    if not files:
        found = f"; it holds {others[0]}" if others else "; it is empty"
        raise SilhouetteError(f"no PNG file in {path}{found}")
    frames = []
    for file in files:
        frames.append(read_image(file))
        same_size(frames[0], files[0], frames[-1], file)
    return frames


def list_images(path: str | Path) -> tuple[list[Path], list[str]]:
    """The PNG files of a folder in natural order of their names, and the names of all else in it.

    Hidden files and what file managers leave behind are in neither.
    """
    files, others = [], []
    try:
        entries = sorted(Path(path).iterdir(), key=lambda entry: natural(entry.name))
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise SilhouetteError(f"{path}: {error.strerror}") from None
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in _IGNORED:
            continue
        if entry.suffix.lower() == ".png":
            files.append(entry)
        else:
            others.append(entry.name)
    return files, others


def same_size(first: Frame, first_file: Path, frame: Frame, file: Path) -> None:
    """Raise SilhouetteError unless two frames of a sequence are of one size."""
    if frame.shape != first.shape:
        raise SilhouetteError(
            f"{file} is {frame.shape[1]}×{frame.shape[0]} pixels and {first_file.name} is "
            f"{first.shape[1]}×{first.shape[0]}: the frames of a sequence must be of one size"
        )


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts the numbers in names as numbers; names that differ only in case or in leading
    zeros stay in one order too."""
    pieces = [(int(piece), "") if piece.isdecimal() else (0, piece) for piece in re.split(r"(\d+)", name)]
    return [*pieces, (0, name)]


def _decode(data: bytes) -> Frame:
    from PIL import Image

    if not data.startswith(_SIGNATURE):
        raise SilhouetteError("not a PNG file" if data else "the file is empty")
    if len(data) < 24:
        raise SilhouetteError("the PNG file is truncated")
    width, height = struct.unpack(">II", data[16:24])  # before Pillow reserves anything
    if width * height > _MOST_PIXELS:
        raise SilhouetteError(f"it has {width}×{height} pixels, more than 4096×4096")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()
            return _grey(image)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise SilhouetteError(f"the PNG file is damaged or truncated: {error}") from None


def _grey(image: Image.Image) -> Frame:
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode == "L":
        return np.asarray(image)
    if image.mode in ("P", "RGB"):
        colours = np.asarray(image.convert("RGB"))
        if (colours == colours[:, :, :1]).all():
            return np.ascontiguousarray(colours[:, :, 0])
        raise SilhouetteError(f"the image has colours: {_AS_GREY}")
    what = {"LA": "transparency", "RGBA": "transparency", "I;16": "16 bits", "I": "16 bits"}
    raise SilhouetteError(f"the image has {what.get(image.mode, f'pixels of mode {image.mode}')}: {_AS_GREY}")
