from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scenes import HEIGHT, WIDTH, Person, Scene

from gaitedge.errors import InputError
from gaitedge.video.segmentation import BackgroundSegmenter, BackgroundSettings, open_segmenter

Image = NDArray[np.uint8]
WALKS = Scene((Person(60, 580, last=49),), frames=50)


def overlap(found: Image, true: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    seen = found > 0
    return float((seen & true).sum() / (seen | true).sum())


def primed(scene: Scene) -> BackgroundSegmenter:
    segmenter = BackgroundSegmenter()
    segmenter.prime(scene.images())
    return segmenter


def overlaps(scene: Scene, settings: BackgroundSettings | None = None) -> list[float]:
    """How well each frame of a scene is cut, its background learnt from the scene itself."""
    segmenter = BackgroundSegmenter(settings)
    segmenter.prime(scene.images())
    return [
        overlap(segmenter.segment(image), np.logical_or.reduce(masks))
        for image, masks in zip(scene.images(), scene.masks(), strict=True)
    ]


def test_a_walker_is_cut_out_of_the_scene_in_which_he_always_walks() -> None:
    found = overlaps(WALKS)
    assert min(found) > 0.65
    assert np.mean(found) > 0.78


def test_a_shadow_is_no_person() -> None:
    scene = Scene(WALKS.people, frames=50, shadows=True)
    blind = BackgroundSettings(brightest_shadow=0.0)  # it takes every shadow for a part of the person
    assert np.mean(overlaps(scene)) > np.mean(overlaps(scene, blind)) + 0.08


def test_what_is_learnt_while_it_is_looked_at() -> None:
    settings = BackgroundSettings(warm_up=20)
    segmenter = BackgroundSegmenter(settings)
    masks = [segmenter.segment(image) for image in WALKS.images()]
    assert not any(mask.any() for mask in masks[:20])
    true = list(WALKS.masks())
    assert np.mean([overlap(mask, true[20 + n][0]) for n, mask in enumerate(masks[20:])]) > 0.7


def test_an_empty_scene_shows_nobody_whatever_the_light() -> None:
    empty = Scene((), frames=30)
    segmenter = primed(empty)
    across = np.linspace(-25, 25, WIDTH)[None, :, None]
    for number, image in enumerate(empty.images()):
        lit = np.clip(image + number / 30 * across, 0, 255).astype(np.uint8)
        assert not segmenter.segment(lit).any()


def test_something_left_standing_becomes_background_and_its_place_is_seen_again() -> None:
    segmenter = BackgroundSegmenter(BackgroundSettings(foreground_rate=0.05))
    empty = Scene((), frames=20)
    segmenter.prime(empty.images())
    image = next(empty.images())
    left = image.copy()
    left[100:160, 300:330] = (30, 30, 200)
    first, *_, last = [segmenter.segment(left) for _ in range(80)]
    assert overlap(first, (left != image).any(axis=2)) > 0.8
    assert not last.any()
    assert segmenter.segment(image)[110:150, 305:325].all()


def test_a_camera_that_is_turned_is_learnt_anew() -> None:
    segmenter = BackgroundSegmenter(BackgroundSettings(warm_up=10))
    segmenter.prime(Scene((), frames=20).images())
    elsewhere = [255 - image[:, ::-1] for image in Scene(WALKS.people, frames=50, seed=7).images()]
    masks = [segmenter.segment(image) for image in elsewhere]
    assert not any(mask.any() for mask in masks[:10])
    true = [shown[0][:, ::-1] for shown in Scene(WALKS.people, frames=50, seed=7).masks()]
    assert np.mean([overlap(masks[n], true[n]) for n in range(20, 50)]) > 0.5


def test_an_image_of_another_size_begins_anew() -> None:
    segmenter = primed(Scene((), frames=10))
    small = np.zeros((60, 80, 3), np.uint8)
    assert segmenter.segment(small).shape == (60, 80)
    assert not segmenter.segment(small).any()


def test_large_images_are_worked_at_small_and_given_back_large() -> None:
    settings = BackgroundSettings(rows=120)
    segmenter = BackgroundSegmenter(settings)
    segmenter.prime(WALKS.images())
    found = [
        overlap(segmenter.segment(image), masks[0])
        for image, masks in zip(WALKS.images(), WALKS.masks(), strict=True)
    ]
    assert np.mean(found) > 0.6


def test_the_mask_is_0_and_255_and_the_image_is_left_as_it_was() -> None:
    segmenter = primed(WALKS)
    image = list(WALKS.images())[30]
    before = image.copy()
    mask = segmenter.segment(image)
    assert (mask.shape, mask.dtype) == ((HEIGHT, WIDTH), np.uint8)
    assert set(np.unique(mask)) == {0, 255}
    assert (image == before).all()


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (np.zeros((4, 4), np.uint8), r"not uint8\[4, 4\]"),
        (np.zeros((4, 4, 3), np.float32), r"not float32\[4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), r"not uint8\[0, 4, 3\]"),
        ("image.png", "not str"),
    ],
)
def test_what_is_no_image(image: Image, what: str) -> None:
    with pytest.raises(InputError, match=what):
        BackgroundSegmenter().segment(image)


def test_a_background_of_nothing_or_of_two_sizes() -> None:
    with pytest.raises(InputError, match="no images"):
        BackgroundSegmenter().prime([])
    with pytest.raises(InputError, match="one size"):
        BackgroundSegmenter().prime([np.zeros((n, 8, 3), np.uint8) for n in (8, 9)])


def test_the_name_of_a_segmenter() -> None:
    assert isinstance(open_segmenter("background"), BackgroundSegmenter)
    with pytest.raises(InputError, match=r"unknown segmenter 'yolo': background.*MODEL\.onnx"):
        open_segmenter("yolo")
    with pytest.raises(InputError, match=r"no segmentation model at none\.onnx"):
        open_segmenter("none.onnx")
