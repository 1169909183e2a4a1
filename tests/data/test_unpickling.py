from __future__ import annotations

import builtins
import os
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gaitedge.data.unpickling import unpickle_array
from gaitedge.errors import SilhouetteError

WALK = np.random.default_rng(0).integers(0, 256, (7, 64, 64)).astype(np.uint8)


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


class Builds:
    """Pickles as a call and a state."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], state: Any) -> None:
        self.call = function, arguments, state

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...], Any]:
        return self.call


def reconstruct() -> Callable[..., Any]:
    function = np.zeros(1).__reduce__()[0]
    assert callable(function)
    return function


def read(data: bytes, folder: Path) -> np.ndarray:
    path = folder / "walk.pkl"
    path.write_bytes(data)
    return unpickle_array(path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        WALK,
        np.asfortranarray(WALK),
        WALK[:, :, 10:-10],
        list(WALK),
        tuple(WALK),
        [WALK[0], WALK[0]],
        WALK.astype(">i4"),
        WALK.astype(np.float64),
        WALK > 100,
    ],
    ids=["array", "fortran", "view", "list", "tuple", "twice", "big-endian", "float", "bool"],
)
def test_reads_what_numpy_pickles(value: Any, protocol: int, tmp_path: Path) -> None:
    array = read(pickle.dumps(value, protocol), tmp_path)
    assert (array == np.asarray(value)).all()
    assert array.dtype == np.asarray(value).dtype
    assert not array.flags.writeable


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_reads_the_names_of_both_numpys(core: str, protocol: int, tmp_path: Path) -> None:
    data = pickle.dumps(WALK, protocol)
    if protocol >= 4:
        assert data[2] == 0x95  # a frame, which may be left out, and with it its length
        data = data[:2] + data[11:]
    old = {reconstruct().__module__, reconstruct().__module__.replace("multiarray", "numeric")}
    for module in old:
        name = f"{core}.{module.rpartition('.')[2]}"
        data = data.replace(f"c{module}\n".encode(), f"c{name}\n".encode())
        data = data.replace(
            b"\x8c%c%s" % (len(module), module.encode()), b"\x8c%c%s" % (len(name), name.encode())
        )
    assert f"{core}.".encode() in data
    assert (read(data, tmp_path) == WALK).all()


def test_reads_python_2s(tmp_path: Path) -> None:
    raw = bytes([0, 1, 127, 128, 255, 10])
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03U\x01bq\x04"
        b"\x87q\x05Rq\x06(K\x01K\x02K\x03\x86q\x07cnumpy\ndtype\nq\x08U\x02u1q\x09K\x00K\x01\x87q\x0aRq\x0b("
        b"K\x03U\x01|q\x0cNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0db\x89U\x06" + raw + b"q\x0etq\x0fb."
    )
    assert (read(data, tmp_path) == np.frombuffer(raw, np.uint8).reshape(2, 3)).all()


def evil() -> list[Any]:
    nested = np.empty(2, object)
    nested[0] = Calls(os.system, "touch PWNED")
    return [
        (Calls(os.system, "touch PWNED"), "calls for (posix|nt).system"),
        (Calls(builtins.eval, "open('PWNED', 'w')"), "calls for (builtins|__builtin__).eval"),
        ([WALK, Calls(os.system, "touch PWNED")], "calls for (posix|nt).system"),
        (nested, "only numbers are read|calls for"),
        (Calls(getattr, WALK, "tofile"), "calls for (builtins|__builtin__).getattr"),
        (np.empty(2, object), "only numbers are read"),
        (np.zeros(3, [("a", "u1"), ("b", "u1")]), "only numbers are read"),
        (np.array(["walk"]), "only numbers are read"),
        (np.float64(3), r"calls for numpy\S*.scalar"),
        (np.ma.masked_array([1]), "calls for numpy.ma"),
        (Path("walk"), "calls for pathlib"),
        ({"walk": WALK}, "a value of type dict"),
        (None, "None, must hold"),
        ([], "an empty list"),
        ([WALK, 3], "item 1 of its list is a value of type int"),
        ([[WALK]], "item 0 of its list is a value of type list"),
        ([WALK[0], WALK[0, :9]], r"item 1 of its list is uint8\[9, 64\], item 0 is uint8\[64, 64\]"),
        (Calls(np.ndarray, (10**13,), np.dtype("u1")), "without values|is refused|not a readable"),
        (Calls(np.dtype, "V1000000000"), "only numbers"),
        (Calls(reconstruct(), np.ndarray, (10**13,), b"b"), "an array without its values"),
        (Builds(np.dtype, ("u1",), (3, "|", None, ("a",), {}, 1, 1, 0x3F)), "compound type"),
        (Builds(np.dtype, ("u1",), {"dtype": WALK}), "not a readable pickle"),
        (
            Builds(reconstruct(), (np.ndarray, (0,), b"b"), (1, (10**13,), np.dtype("u1"), False, b"1")),
            r"claims uint8\[10000000000000\] and holds 1 bytes|shape",
        ),
        (
            Builds(reconstruct(), (np.ndarray, (0,), b"b"), (1, (-1, -1), np.dtype("u1"), False, b"1")),
            "shape",
        ),
        (
            Builds(reconstruct(), (np.ndarray, (0,), b"b"), (1, (1,), np.dtype("O"), False, [os.system])),
            "only numbers|calls for",
        ),
    ]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("number", range(len(evil())))
def test_refuses(number: int, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    value, message = evil()[number]
    with pytest.raises(SilhouetteError, match=message) as caught:
        read(pickle.dumps(value, protocol), tmp_path)
    assert "walk.pkl" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"not a pickle",
        b"\x80\x04\x8e" + struct.pack("<Q", 10**13) + b"x.",  # bytes of 10 TB
        b"\x80\x05\x96" + struct.pack("<Q", 10**13) + b"x.",  # a bytearray of 10 TB
        b"\x80\x04\x95" + struct.pack("<Q", 10**13) + b"N.",  # a frame of 10 TB
        b"\x80\x02Nr" + struct.pack("<I", 2**31) + b".",  # a memo of 2^31 places
        b"p99999999999\n.",
        b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00x\x85R.",
        b"\x80\x02ccopyreg\n_reconstructor\n.",
        b"Pwalk\n.",
        b"\x80\x02Nh\x07.",
        b"\x80\x04\x8c\x02os\x8c\x08sys\n\x1b[0mt\x93.",
        b"(" * 1000 + b"t" * 1000 + b".",
    ],
)
def test_refuses_bytes_that_no_pickler_writes(data: bytes, tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(SilhouetteError, match=r"walk\.pkl") as caught:
            read(data, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_refuses_every_truncation(protocol: int, tmp_path: Path) -> None:
    whole = pickle.dumps(WALK[:1, :4], protocol)
    for length in range(len(whole)):
        with pytest.raises(SilhouetteError, match=r"walk\.pkl is (not a readable pickle|refused)"):
            read(whole[:length], tmp_path)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_flipped_bytes_are_refused_or_read_as_numbers(protocol: int, tmp_path: Path) -> None:
    whole = pickle.dumps(WALK[:1, :4, :4], protocol)
    for place in range(len(whole)):
        for flip in (0x01, 0x40, 0xFF):
            data = whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :]
            try:
                assert read(data, tmp_path).dtype.kind in "biuf"
            except SilhouetteError as error:
                assert str(error).isprintable()  # noqa: PT017


def test_a_small_pickle_cannot_unpack_to_a_huge_array(tmp_path: Path) -> None:
    frame = np.zeros((1024, 1024), np.uint8)
    with pytest.raises(SilhouetteError, match="unpacks to more than 256 MiB"):
        read(pickle.dumps([frame] * 300), tmp_path)


def test_a_file_too_large_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "large.pkl").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SilhouetteError, match="has 1048576 MiB, more than the 256 MiB"):
        unpickle_array(tmp_path / "large.pkl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SilhouetteError, match=r"none\.pkl cannot be read: No such file"):
        unpickle_array(tmp_path / "none.pkl")
    with pytest.raises(SilhouetteError, match="cannot be read: Is a directory"):
        unpickle_array(tmp_path)
