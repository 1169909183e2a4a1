from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaitedge.data.images import list_images, read_folder, read_image
from gaitedge.errors import SilhouetteError

MASK = (255 * (np.random.default_rng(0).random((24, 31)) < 0.4)).astype(np.uint8)
GREY = np.random.default_rng(1).integers(0, 256, (24, 31)).astype(np.uint8)


def palette_image(grey: np.ndarray, colours: list[int]) -> Image.Image:
    image = Image.frombytes("P", grey.shape[::-1], grey.tobytes())
    image.putpalette(colours)
    return image


def header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(MASK).convert("1"), MASK),
        (Image.fromarray(GREY), GREY),
        (palette_image(GREY, [value for value in range(256) for _ in range(3)]), GREY),
        (palette_image(MASK // 255, [0, 0, 0, 255, 255, 255]), MASK),
        (palette_image(MASK // 255, [255, 255, 255, 0, 0, 0]), 255 - MASK),
        (Image.fromarray(np.stack([GREY] * 3, axis=-1)), GREY),
    ],
    ids=["1-bit", "8-bit", "grey palette", "black and white palette", "white and black palette", "grey RGB"],
)
def test_reads(image: Image.Image, expected: np.ndarray, tmp_path: Path) -> None:
    image.save(tmp_path / "a.png")
    frame = read_image(tmp_path / "a.png")
    assert frame.dtype == np.uint8
    assert (frame == expected).all()


def test_reads_every_depth_of_grey(tmp_path: Path) -> None:
    for bits in (1, 2, 4):
        levels = (1 << bits) - 1
        grey = np.arange(8)[None] % (levels + 1)
        rows = np.packbits(
            np.unpackbits(grey.astype(np.uint8)[..., None], axis=2)[:, :, 8 - bits :].reshape(1, -1)
        )
        body = b"IHDR" + struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0)
        data = b"IDAT" + zlib.compress(b"\0" + rows.tobytes())
        png = b"\x89PNG\r\n\x1a\n"
        for chunk in (body, data, b"IEND"):
            png += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        (tmp_path / "a.png").write_bytes(png)
        assert (read_image(tmp_path / "a.png") == grey * 255 // levels).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.fromarray(np.dstack([GREY, GREY, 255 - GREY])), "has colours: save it as an 8-bit"),
        (palette_image(MASK // 255, [0, 0, 0, 128, 0, 0]), "has colours: save it as an 8-bit"),
        (Image.fromarray(GREY.astype(np.uint16) * 257), "has 16 bits: save it as an 8-bit"),
        (Image.fromarray(np.dstack([GREY] * 4)), "has transparency: save it as an 8-bit"),
        (Image.fromarray(np.dstack([GREY] * 2)), "has transparency: save it as an 8-bit"),
    ],
)
def test_refuses_pixels(image: Image.Image, message: str, tmp_path: Path) -> None:
    image.save(tmp_path / "a.png")
    with pytest.raises(SilhouetteError, match=f"a.png: the image {message}"):
        read_image(tmp_path / "a.png")


def test_refuses_every_truncation(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 20, 7):  # behind that only the end mark is missing
        path.write_bytes(whole[:length])
        with pytest.raises(SilhouetteError, match=r"a\.png: ") as caught:
            read_image(path)
        assert "\n" not in str(caught.value)


def test_refuses_flipped_bytes_or_reads_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(MASK).save(path)
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        for flip in (0x01, 0xFF):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            try:
                assert read_image(path).dtype == np.uint8
            except SilhouetteError:
                refused += 1
    assert refused > len(whole)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"walk", "not a PNG file"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "not a PNG file"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (header(100_000, 100_000), "100000×100000 pixels, more than 4096×4096"),
        (header(4, 4), "damaged or truncated"),
        (header(0, 4), "damaged or truncated"),
    ],
)
def test_refuses_files(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(SilhouetteError, match=f"a.png: .*{message}"):
        read_image(tmp_path / "a.png")


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SilhouetteError, match=r"none\.png: No such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(SilhouetteError, match="Is a directory"):
        read_image(tmp_path)


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 2, 1, 33):
        Image.fromarray(np.full((5, 4), number, np.uint8)).save(tmp_path / f"walk-{number}.png")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"x")
    assert [int(frame[0, 0]) for frame in read_folder(tmp_path)] == [1, 2, 10, 33]
    assert list_images(tmp_path)[1] == ["notes.txt"]


def test_a_folder_of_mixed_sizes_is_refused(tmp_path: Path) -> None:
    for name, size in (("1", (5, 4)), ("2", (5, 4)), ("3", (6, 4))):
        Image.fromarray(np.full(size, 9, np.uint8)).save(tmp_path / f"{name}.png")
    with pytest.raises(SilhouetteError, match=r"3\.png is 4×6 pixels and 1\.png is 4×5"):
        read_folder(tmp_path)


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(SilhouetteError, match=r"no PNG file in .*; it is empty"):
        read_folder(tmp_path)
    (tmp_path / "001.jpg").write_bytes(b"x")
    with pytest.raises(SilhouetteError, match=r"no PNG file in .*; it holds 001\.jpg"):
        read_folder(tmp_path)
    with pytest.raises(SilhouetteError, match="No such file"):
        read_folder(tmp_path / "none")


def test_a_damaged_file_of_a_folder_is_named(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:-60])
    with pytest.raises(SilhouetteError, match=r"2\.png: the PNG file is damaged or truncated"):
        read_folder(tmp_path)
