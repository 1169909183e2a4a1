"""The nearest of a gallery (Sec. 3.4) against their plain statement in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from host_build import ORDERS, TYPES, Host, Output, address, aligned
from numpy.typing import NDArray

from gaitedge.cuda import PartDistance
from gaitedge.errors import InputError
from gaitedge.people.identification import distances

Array = NDArray[Any]
TICKET_BYTES = 1024  # kTicketBytes of arguments.h


class Workspace:
    """A workspace that is asked for once, for the largest launch, and zeroed as far as it must be."""

    def __init__(self, size: int) -> None:
        self.output = Output((max(size, TICKET_BYTES),), np.uint8)
        self.output.array[:TICKET_BYTES] = 0

    def check(self) -> None:
        assert not self.output.check()[:TICKET_BYTES].any(), "a launch left its tickets behind"


def nearest(
    host: Host,
    probes: Array,
    gallery: Array,
    k: int,
    workspace: Workspace | None = None,
    place: Callable[[Array], Array] = aligned,
) -> tuple[Array, Array]:
    """[probes, k] distances and entries, as the kernel gives them; place: where the inputs are to lie."""
    sizes = (len(probes), len(gallery), *probes.shape[1:], k)
    given, entries = place(probes), place(gallery)
    distance, index = Output((len(probes), k), np.float32), Output((len(probes), k), np.int32)
    pointers = [address(array) for array in (given, entries, distance.array, index.array)]
    arguments = PartDistance(*pointers, None, TYPES[gallery.dtype.type], *sizes)
    workspace = workspace or Workspace(host.workspace(arguments))
    arguments.workspace = address(workspace.output.array)
    host.launch(arguments)
    workspace.check()
    return distance.check(), index.check()


def reference(probes: Array, gallery: Array) -> Array:
    """Distances [probes, entries] in float64."""
    with np.errstate(invalid="ignore"):  # Inf - Inf is NaN, as it should be
        difference = probes[:, None].astype(np.float64) - gallery[None].astype(np.float64)
    return np.sqrt((difference**2).sum(axis=3)).mean(axis=2)


def check(found: tuple[Array, Array], expected: Array, k: int, rtol: float = 1e-6) -> None:
    """found: what `nearest` gave; expected: all distances."""
    distance, index = found
    entries = expected.shape[1]
    there = min(k, entries)
    assert (index[:, there:] == -1).all()
    assert (distance[:, there:] == np.inf).all()
    for row, numbers, own in zip(expected, index[:, :there], distance[:, :there], strict=True):
        assert len(set(numbers)) == there
        assert ((numbers >= 0) & (numbers < entries)).all()
        np.testing.assert_allclose(own, row[numbers], rtol=rtol, atol=1e-7)
        # In order, of equal ones the earlier entry first, and NaN last.
        np.testing.assert_array_equal(np.lexsort((numbers, own)), np.arange(there))
        np.testing.assert_allclose(own, np.sort(row)[:there], rtol=rtol, atol=1e-7)


def draw(*shape: int, seed: int = 0, dtype: type = np.float32) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("probes", "entries", "parts", "dim", "k"),
    [
        (1, 40, 16, 256, 5),
        (9, 33, 4, 256, 10),  # two tiles, the second with one probe
        (1, 1, 1, 1, 1),
        (3, 70, 2, 7, 64),  # rows that no 16 bytes divide
        (2, 100, 3, 130, 3),
        (1, 3, 2, 12, 64),  # fewer than k
        (8, 31, 1, 4, 31),
        (17, 0, 2, 8, 3),  # nobody is enrolled
        (0, 9, 2, 8, 3),
    ],
)
def test_agrees(host: Host, dtype: type, probes: int, entries: int, parts: int, dim: int, k: int) -> None:
    ours, theirs = draw(probes, parts, dim), draw(entries, parts, dim, seed=1, dtype=dtype)
    expected = reference(ours, theirs)
    for order in ORDERS:
        with host.order(order):
            check(nearest(host, ours, theirs, k), expected, k)


@pytest.mark.parametrize(("probes", "entries", "k"), [(1, 9001, 64), (10, 9001, 40), (3, 1100, 1)])
def test_long_galleries_are_cut_and_joined(host: Host, probes: int, entries: int, k: int) -> None:
    # The nearest come in one run, so that one chunk has all of them and the others' are not needed;
    # then in steps, so that every chunk has some.
    gallery = draw(entries, 1, 4, seed=2)
    ours = draw(probes, 1, 4, seed=3)
    for spread in (np.arange(entries), np.arange(entries) * 37 % entries):
        given = gallery[np.argsort(reference(ours[:1], gallery)[0])][spread]
        check(nearest(host, ours, given, k), reference(ours, given), k)


def test_one_workspace_serves_launch_after_launch(host: Host) -> None:
    workspace = Workspace(1 << 20)  # what the first launch leaves in it lies where another has its own
    for probes, entries, k in ((1, 9001, 64), (30, 500, 20), (1, 9, 3), (64, 300, 9), (1, 4000, 5)):
        ours, gallery = draw(probes, 1, 4, seed=probes), draw(entries, 1, 4, seed=entries)
        check(nearest(host, ours, gallery, k, workspace), reference(ours, gallery), k)


def test_it_is_the_recognizer_s_distance(host: Host) -> None:
    ours, gallery = draw(5, 16, 128), draw(20, 16, 128, seed=1)
    expected = distances(ours, gallery)
    distance, index = nearest(host, ours, gallery, 20)
    np.testing.assert_array_equal(index, np.argsort(expected, axis=1))
    np.testing.assert_allclose(distance, np.sort(expected, axis=1), rtol=1e-6)


@pytest.mark.parametrize("probes", [1, 8])
def test_of_equal_ones_the_earlier_comes_first_and_a_copy_is_at_0(host: Host, probes: int) -> None:
    few = draw(5, 3, 20, seed=4)
    gallery = np.concatenate([few] * 200)  # cut into chunks, each entry 200 times
    distance, index = nearest(host, np.repeat(few[2:3], probes, axis=0), gallery, 64)
    assert (index == np.arange(2, 5 * 64 + 2, 5)).all()
    assert (distance == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_nan_comes_after_infinity_and_both_before_nothing(host: Host, dtype: type) -> None:
    gallery = draw(12, 2, 8, seed=5, dtype=dtype)
    gallery[1, 0, 3], gallery[4, 1, 7] = np.inf, -np.inf
    gallery[2, 1, 1] = np.nan
    gallery[7, 0, 0] = -np.array(np.nan, dtype)  # of the other sign
    ours = draw(2, 2, 8, seed=6)
    ours[1, 0, 3] = np.inf  # Inf - Inf: NaN against entry 1, Inf against the others
    distance, index = nearest(host, ours, gallery, 14)
    expected = reference(ours, gallery)
    assert index[0, 8:].tolist() == [1, 4, 2, 7, -1, -1]
    np.testing.assert_array_equal(distance[0, 8:], [np.inf, np.inf, np.nan, np.nan, np.inf, np.inf])
    np.testing.assert_allclose(distance[0, :8], np.sort(expected[0])[:8], rtol=1e-6)
    assert index[1].tolist() == [0, 3, 4, 5, 6, 8, 9, 10, 11, 1, 2, 7, -1, -1]
    np.testing.assert_array_equal(distance[1], [np.inf] * 9 + [np.nan] * 3 + [np.inf] * 2)


def test_a_part_s_end_is_not_read_past(host: Host) -> None:
    """Whatever lies behind the last row, NaN here, is no part of it."""

    def place(array: Array) -> Array:
        memory = aligned(np.full(array.size + 64, np.nan, array.dtype))
        memory[: array.size] = array.ravel()
        return memory[: array.size].reshape(array.shape)

    for probes, entries in ((1, 3), (3, 33)):
        ours, gallery = draw(probes, 2, 5, seed=8), draw(entries, 2, 5, seed=7)
        check(nearest(host, ours, gallery, 3, place=place), reference(ours, gallery), 3)


def test_impossible_arguments_are_refused(host: Host) -> None:
    good = {"type": 0, "probe_count": 2, "entries": 9, "parts": 2, "dim": 8, "k": 3}
    for wrong in (
        {"k": 0},
        {"k": 65},
        {"dim": 0},
        {"dim": 1 << 26},
        {"parts": 0},
        {"entries": -1},
        {"entries": 2**31 - 1},
        {"probe_count": 2**31 - 1},
        {"type": 2},
    ):
        arguments = PartDistance(**{**good, **wrong})
        with pytest.raises(InputError, match="no kernel of gaitedge_part_distance takes type="):
            host.launch(arguments)
        assert host.workspace(arguments) == -1
    # A cut gallery needs a workspace.
    arguments = PartDistance(**{**good, "entries": 9000})
    assert host.workspace(arguments) > TICKET_BYTES
    with pytest.raises(InputError, match="no kernel of gaitedge_part_distance takes"):
        host.launch(arguments)
