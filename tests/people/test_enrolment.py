from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from gaitedge.errors import GalleryError, InputError
from gaitedge.people.enrolment import Enrolment, check_enrolment

GOOD = np.arange(32, dtype=np.float32).reshape(4, 8)


def check(**changes: Any) -> Enrolment:
    return check_enrolment(Enrolment(**{"subject": "Ada", "embedding": GOOD, **changes}), 4, 8)


@pytest.mark.parametrize("name", ["a", "Ada Lovelace", "山田 太郎", "x" * 200, "o'Neill; DROP TABLE", "007"])
def test_names_that_serve(name: str) -> None:
    assert check(subject=name, condition=name, view=name).subject == name


@pytest.mark.parametrize(
    "name", ["", " ", " Ada", "Ada ", "x" * 201, "a\nb", "a\tb", "a\0b", "\x1b[31m", "\ud800", "\u200b"]
)
@pytest.mark.parametrize("what", ["subject", "condition", "view"])
def test_names_that_do_not(what: str, name: str) -> None:
    with pytest.raises(InputError, match="must be 1 to 200 printable characters") as caught:
        check(**{what: name})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_two_spellings_of_an_accent_are_one_name() -> None:
    assert check(subject="Jose\u0301").subject == check(subject="Jos\u00e9").subject == "Jos\u00e9"


@pytest.mark.parametrize(
    ("embedding", "found"),
    [
        (GOOD.astype(np.float64), "float64[4, 8]"),
        (GOOD.astype(np.float16), "float16[4, 8]"),
        (GOOD.T, "float32[8, 4]"),
        (GOOD[None], "float32[1, 4, 8]"),
        (np.float32(1), "float32[]"),
    ],
)
def test_embeddings_of_another_shape_or_type(embedding: Any, found: str) -> None:
    with pytest.raises(GalleryError, match=re.escape(f"is {found}, this gallery takes float32[4, 8]")):
        check(embedding=embedding)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_embeddings_that_are_not_finite(value: float) -> None:
    embedding = GOOD.copy()
    embedding[2, 3] = value
    with pytest.raises(GalleryError, match="'Ada' holds NaN or infinite values"):
        check(embedding=embedding)


@pytest.mark.parametrize("frames", [0, -1])
def test_a_walk_has_frames(frames: int) -> None:
    with pytest.raises(InputError, match=f"not {frames}"):
        check(frames=frames)


def test_a_count_is_kept_as_a_plain_integer() -> None:
    assert type(check(frames=np.int64(30)).frames) is int


def test_a_source_is_kept_printable() -> None:
    assert check(source="walks/\udcff\n\x1b[1m/a").source == "walks/\\udcff\\n\\x1b[1m/a"
