from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaitedge.errors import InputError
from gaitedge.people import explain as module
from gaitedge.people.explain import check_picture, colour, draw, explain, strips, widest_frame
from gaitedge.people.identification import Identification, Match

HEAD, MARGIN, SCALE = module.HEAD, module.MARGIN, module.SCALE


def walk() -> np.ndarray:
    """Three frames of a pillar, widest in the second."""
    frames = np.zeros((3, 64, 44), np.uint8)
    for frame, width in zip(frames, (4, 30, 30), strict=True):
        frame[:, 22 - width // 2 : 22 + width // 2] = 255
    return frames


def found(*names: str, threshold: float | None = None, parts: int = 16) -> Identification:
    matches = tuple(
        Match(name, 1.0 + rank, "nm-01", "090", rank, tuple(0.1 * part + rank for part in range(parts)))
        for rank, name in enumerate(names)
    )
    return Identification(matches, False, threshold, 1.0 if len(names) > 1 else None)


def test_the_widest_frame_is_shown() -> None:
    assert (widest_frame(walk()) == walk()[1]).all()
    one_side = np.zeros((2, 64, 44), np.uint8)
    one_side[0, :, 40:], one_side[1, :, 0:3] = 255, 255
    assert (widest_frame(one_side) == one_side[0]).all()  # 4 columns against 3
    nothing = np.zeros((2, 64, 44), np.uint8)
    nothing[1, 5, 7] = 255
    assert (widest_frame(nothing) == nothing[1]).all()


def test_strips_are_the_horizontal_parts() -> None:
    assert strips(64, 16) == [(4 * part, 4 * part + 4) for part in range(16)]
    for parts in (1, 3, 31, 64):
        edges = strips(64, parts)
        assert (len(edges), edges[0][0], edges[-1][1]) == (parts, 0, 64)
        assert all(top < bottom for top, bottom in edges)
        assert all(above[1] == below[0] for above, below in itertools.pairwise(edges))


def test_colours_grow_lighter_with_the_distance() -> None:
    light = [
        0.3 * red + 0.59 * green + 0.11 * blue for red, green, blue in map(colour, np.linspace(0, 1, 50))
    ]
    assert (np.diff(light) > 0).all()
    assert colour(-1) == colour(0) == module.RAMP[0]
    assert colour(7) == colour(1) == module.RAMP[-1]


def test_each_strip_of_the_body_has_its_own_colour() -> None:
    picture = np.asarray(draw(walk(), found("Ada", "Bob")))
    panel = 44 * SCALE + module.NUMBERS + module.GAP
    for number in range(2):
        for part in range(16):
            row, column = HEAD + SCALE * (4 * part + 2), MARGIN + number * panel + 22 * SCALE
            assert tuple(picture[row, column]) == colour((0.1 * part + number) / 2.5)
            beside = picture[row, MARGIN + number * panel + SCALE]
            assert beside.astype(int).sum() > picture[row, column].astype(int).sum()  # paler


def test_the_legend_runs_from_near_to_far_and_marks_the_threshold() -> None:
    two = found("Ada", "Bob", threshold=1.2)
    picture = np.asarray(draw(walk(), two))
    column = MARGIN + 2 * (44 * SCALE + module.NUMBERS + module.GAP) + module.BAR // 2
    assert tuple(picture[HEAD, column]) == colour(0)
    assert tuple(picture[HEAD + 64 * SCALE - 1, column]) == colour(1)
    marked = HEAD + round(1.2 / 2.5 * (64 * SCALE - 1))
    assert tuple(picture[marked, column]) == module.INK
    plain = np.asarray(draw(walk(), found("Ada", "Bob")))
    assert tuple(plain[marked, column]) != module.INK


def test_a_threshold_beyond_all_parts_is_on_the_scale() -> None:
    picture = np.asarray(draw(walk(), found("Ada", "Bob", threshold=10.0)))
    assert tuple(picture[HEAD + 2, MARGIN + 22 * SCALE]) == colour(0)
    assert tuple(picture[HEAD + 62 * SCALE, MARGIN + 22 * SCALE]) == colour(0.15)


def test_one_person_alone_and_equal_embeddings() -> None:
    alone = draw(walk(), found("Ada"))
    both = draw(walk(), found("Ada", "Bob"))
    assert alone.width < both.width
    assert alone.height == both.height
    match = Match("Ada", 0.0, None, None, 1, (0.0,) * 16)
    draw(walk(), Identification((match,), False, None))  # a scale from 0 to 0


def test_long_and_foreign_names_fit() -> None:
    long, foreign = "x" * 200, "Ångström 名前"
    usual = draw(walk(), found("Ada", "Bob"))
    picture = draw(walk(), found(long, foreign))
    assert picture.size == usual.size
    right = np.asarray(picture)[:, -module.MARGIN // 2 :]
    assert (right == 255).all()  # nothing runs into the edge


def test_the_file_is_a_png(tmp_path: Path) -> None:
    explain(walk(), found("Ada", "Bob", threshold=1.0), tmp_path / "why.PNG")
    with Image.open(tmp_path / "why.PNG") as picture:
        assert picture.format == "PNG"
        assert np.array_equal(
            np.asarray(picture), np.asarray(draw(walk(), found("Ada", "Bob", threshold=1.0)))
        )
    assert [path.name for path in tmp_path.iterdir()] == ["why.PNG"]


def test_what_is_no_place_for_a_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"name it .*why\.png, not .*why\.jpg"):
        check_picture(tmp_path / "why.jpg")
    with pytest.raises(InputError, match=r"no folder .*none to write why\.png in"):
        explain(walk(), found("Ada"), tmp_path / "none" / "why.png")


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_an_explanation_takes_a_name(name: str) -> None:
    with pytest.raises(InputError, match=r"name it OUT\.png"):
        check_picture(Path(name))


def test_an_explanation_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "why.png").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_picture(tmp_path / "why.png")
