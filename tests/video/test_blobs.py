from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.errors import InputError
from gaitedge.video.blobs import Box, find_blobs


def drawn(
    *boxes: tuple[int, int, int, int], holes: tuple[tuple[int, int, int, int], ...] = ()
) -> NDArray[np.uint8]:
    """A mask [200, 300] with these boxes white and these black again."""
    mask = np.zeros((200, 300), np.uint8)
    for value, some in ((255, boxes), (0, holes)):
        for left, top, right, bottom in some:
            mask[top:bottom, left:right] = value
    return mask


def test_blobs_come_from_left_to_right_with_their_boxes_masks_and_areas() -> None:
    right, left = (200, 30, 230, 130), (20, 50, 60, 150)
    found = find_blobs(drawn(right, left))
    assert [blob.box for blob in found] == [Box(*left), Box(*right)]
    assert [blob.area for blob in found] == [4000, 3000]
    assert all(blob.mask.shape == (blob.box.height, blob.box.width) for blob in found)
    assert all(blob.mask.all() for blob in found)
    assert (found[0].box.width, found[0].box.height) == (40, 100)


def test_a_persons_pieces_are_put_together() -> None:
    head, trunk, leg, foot = (50, 20, 64, 34), (45, 37, 70, 90), (48, 92, 58, 120), (46, 121, 58, 125)
    (person,) = find_blobs(drawn(head, trunk, leg, foot))
    assert person.box == Box(45, 20, 70, 125)
    assert person.area == 14 * 14 + 25 * 53 + 10 * 28 + 12 * 4
    assert not person.mask[34 - 20 + 1].any()  # the gap stays a gap


def test_neighbours_and_people_one_above_the_other_stay_apart() -> None:
    assert len(find_blobs(drawn((20, 20, 50, 120), (53, 20, 83, 120)))) == 2
    assert len(find_blobs(drawn((20, 10, 50, 90), (20, 100, 50, 190)))) == 2


def test_specks_are_no_blobs_and_count_only_beside_one() -> None:
    assert find_blobs(drawn((100, 100, 102, 104))) == []
    assert find_blobs(drawn((100, 100, 104, 106)), least=1e-3) == []
    assert find_blobs(np.zeros((200, 300), np.uint8)) == []


def test_small_holes_are_filled_and_the_space_between_the_legs_is_not() -> None:
    between, button = (50, 110, 60, 150), (50, 40, 53, 44)
    (person,) = find_blobs(drawn((40, 20, 70, 160), holes=(between, button)))
    assert person.mask[40 - 20 : 44 - 20, 50 - 40 : 53 - 40].all()
    assert not person.mask[110 - 20 : 150 - 20, 50 - 40 : 60 - 40].any()
    assert person.area == 30 * 140 - 10 * 40


@pytest.mark.parametrize(
    "mask", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool), np.zeros((0, 4), np.uint8)]
)
def test_what_is_no_mask(mask: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match="a mask must be"):
        find_blobs(mask)
