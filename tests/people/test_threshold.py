from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.errors import GalleryError, InputError
from gaitedge.people import threshold
from gaitedge.people.threshold import (
    OperatingPoint,
    Rate,
    check_support,
    find_operating_point,
    rate,
    score_probes,
)

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Walk:
    subject: str | None
    condition: str | None = None
    view: str | None = None


def on_a_line(*values: float) -> Array:
    return np.array(values, np.float32).reshape(-1, 1, 1)


def crowd(seed: int, people: int, walks: int, apart: float = 1.0) -> tuple[Array, list[Walk]]:
    """People, several walks each, that resemble each other more than others'."""
    rng = np.random.default_rng(seed)
    centres = apart * rng.standard_normal((people, 1, 4, 8))
    drawn = centres + 0.5 * rng.standard_normal((people, walks, 4, 8))
    names = [Walk(f"{seed}/{number}") for number in range(people) for _ in range(walks)]
    return drawn.reshape(-1, 4, 8).astype(np.float32), names


def test_a_stranger_is_compared_with_everybody_and_an_enrolled_person_with_the_others() -> None:
    gallery = on_a_line(0, 1, 10)
    records = [Walk("Ada"), Walk("Ada"), Walk("Bob")]
    probes, walks = on_a_line(2, 6, 9), [Walk("Ada"), Walk("Eve"), Walk("Bob")]
    scores = score_probes(probes, walks, gallery, records)
    assert scores.enrolled.tolist() == [True, False, True]
    assert scores.genuine.tolist() == [1, np.inf, 1]
    assert scores.impostor.tolist() == [8, 4, 8]


def test_a_recording_is_no_probe_of_itself() -> None:
    gallery = on_a_line(0, 1, 10)
    records = [Walk("Ada", "nm-01", "090"), Walk("Ada", "nm-02", "090"), Walk("Bob", "nm-01", "090")]
    scores = score_probes(gallery, records, gallery, records)
    assert scores.genuine.tolist() == [1, 1, np.inf]
    assert scores.impostor.tolist() == [10, 9, 9]
    unlabelled = score_probes(gallery, [Walk("Ada")] * 3, gallery, [Walk("Ada")] * 3)
    assert unlabelled.genuine.tolist() == [0, 0, 0]  # nothing says that it is the same one


def test_one_name_in_two_spellings_is_one_person() -> None:
    scores = score_probes(on_a_line(5), [Walk("e\u0301")], on_a_line(4, 0), [Walk("\u00e9"), Walk("x")])
    assert (scores.genuine.item(), scores.impostor.item()) == (1, 5)


def test_blocks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, records = crowd(0, 8, 2)
    probes, walks = crowd(0, 12, 3)
    whole = score_probes(probes, walks, gallery, records)
    monkeypatch.setattr(threshold, "PROBE_BLOCK", 5)
    parts = score_probes(probes, walks, gallery, records)
    assert np.allclose(parts.genuine, whole.genuine)
    assert np.allclose(parts.impostor, whole.impostor)


def strangers(*distances: float) -> tuple[Array, list[Walk], Array, list[Walk]]:
    """Probes of as many strangers, at these distances from the only person enrolled."""
    names = [Walk(f"stranger {number}") for number in range(len(distances))]
    return on_a_line(*distances), names, on_a_line(0), [Walk("Ada")]


@pytest.mark.parametrize(
    ("wished", "distance", "count"),
    [(0.5, 5.5, 5), (0.59, 5.5, 5), (0.6, 6.5, 6), (0.3, 3.5, 3), (0.9, 9.5, 9)],
)
def test_no_more_are_accepted_than_wished(wished: float, distance: float, count: int) -> None:
    point = find_operating_point(*strangers(*range(1, 11)), wished)
    assert point.distance == distance
    assert (point.false_accept.count, point.false_accept.probes, point.false_accept.subjects) == (
        count,
        10,
        10,
    )
    assert point.false_accept.rate == count / 10
    assert point.false_reject is None


def test_of_tied_impostors_all_are_accepted_or_none() -> None:
    point = find_operating_point(*strangers(1, 2, 2, 2, 3, 4), 0.5)
    assert (point.distance, point.false_accept.count) == (1.5, 1)


def test_where_not_one_may_be_accepted_the_threshold_is_just_below_the_nearest() -> None:
    point = find_operating_point(*strangers(3, 4, 5), 0.1, allow_few=True)
    assert point.distance == np.nextafter(np.float32(3), np.float32(0))
    assert point.false_accept.count == 0
    assert point.false_accept.low == 0
    assert point.false_accept.high == pytest.approx(1 - 0.025 ** (1 / 3))  # 0.71: three people say little


def test_false_rejects_are_the_unknown_and_the_mistaken() -> None:
    gallery, records = on_a_line(0, 10), [Walk("Ada"), Walk("Bob")]
    probes = on_a_line(1, 8, 3, 9.5, 40, 41, 42)
    walks = [Walk("Ada"), Walk("Ada"), Walk("Ada"), Walk("Bob"), *(Walk(f"{n}") for n in range(3))]
    # The impostors' distances: 9, 2, 7 (Ada left out), 9.5 (Bob left out), 30, 31, 32.
    point = find_operating_point(probes, walks, gallery, records, 0.2, allow_few=True)
    assert point.distance == 4.5
    assert point.false_reject is not None
    # Ada at 8 is 2 from Bob: named as him, and Ada's own distance of 8 is beyond the threshold.
    assert (point.false_reject.count, point.false_reject.probes, point.misidentified) == (1, 4, 1)
    assert (point.left_out, point.false_accept.subjects, point.false_accept.probes) == (2, 5, 7)
    strict = find_operating_point(probes, walks, gallery, records, 0.1, allow_few=True)
    assert strict.distance < 2
    assert strict.false_reject is not None
    assert (strict.false_reject.count, strict.misidentified) == (2, 0)


def test_the_rate_holds_for_other_people() -> None:
    """Set on one crowd, the threshold accepts about as many of the next; what it is for."""
    gallery, records = crowd(1, 20, 2)
    point = find_operating_point(*crowd(2, 300, 4), gallery, records, 0.05)
    again = find_operating_point(*crowd(3, 300, 4), gallery, records, 0.05)
    others = score_probes(*crowd(3, 300, 4), gallery, records).impostor
    assert point.false_accept.rate <= 0.05
    assert point.false_accept.low < np.mean(others <= point.distance) < point.false_accept.high
    assert again.distance == pytest.approx(point.distance, rel=0.1)


def test_the_interval_covers_the_true_rate_and_drawing_probes_would_not() -> None:
    """60 people with 20 probes each; a person's own rate is from 0 to 0.6, all people's is 0.2."""
    rng = np.random.default_rng(4)
    owner = np.repeat(np.arange(60), 20)
    covered, independent = 0, 0
    for seed in range(60):
        own = np.where(rng.random(60) < 2 / 3, 0.0, 0.6)
        found = rate(rng.random(1200) < own[owner], owner, seed)
        covered += found.low <= 0.2 <= found.high
        independent += abs(found.rate - 0.2) <= 1.96 * np.sqrt(0.2 * 0.8 / 1200)
    assert covered >= 51  # 95 % of 60 are 57
    assert independent < covered - 10


def test_intervals_repeat_with_their_seed() -> None:
    owner = np.repeat(np.arange(30), 5)
    events = np.random.default_rng(5).random(150) < 0.3
    assert rate(events, owner, 1) == rate(events, owner, 1)
    assert rate(events, owner, 1) != rate(events, owner, 2)


def test_intervals_where_no_resample_differs() -> None:
    owner = np.repeat(np.arange(10), 7)
    none, every = rate(np.zeros(70, bool), owner), rate(np.ones(70, bool), owner)
    assert (none.low, none.high) == (0, pytest.approx(1 - 0.025**0.1))
    assert (every.low, every.high) == (pytest.approx(0.025**0.1), 1)
    one = rate(np.arange(70) < 20, np.zeros(70, np.intp))
    assert (one.low, one.high) == (0, 1)  # a single person says nothing of others


@pytest.mark.parametrize(
    ("wished", "people", "words"),
    [
        (0.01, 299, "0.01 needs walks of 300 people .*these are of 299; wish for a rate of 0.02 or more"),
        (0.001, 40, "0.001 needs walks of 3000 people .*wish for a rate of 0.08 or more"),
        (0.3, 3, "0.3 needs walks of 10 people .*of 3; give more people"),
        (0.1, 0, "these are of 0; give more people, .*--allow-few"),
        (0.0, 1000, "more than 0 and less than 1, not 0.0"),
        (1.0, 1000, "not 1.0"),
        (float("nan"), 1000, "not nan"),
    ],
)
def test_a_rate_that_so_few_cannot_support(wished: float, people: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_support(wished, people)


def test_a_rate_that_so_many_support() -> None:
    check_support(0.01, 300)
    check_support(0.07, 43)
    check_support(0.01, 3, allow_few=True)
    with pytest.raises(InputError, match="needs walks of 30 people"):
        find_operating_point(*strangers(*range(1, 29)), 0.1)


def test_what_gives_no_operating_point() -> None:
    ada = [Walk("Ada")]
    with pytest.raises(InputError, match="nobody can be taken for an impostor"):
        find_operating_point(on_a_line(1), ada, on_a_line(0), ada, 0.5)
    with pytest.raises(InputError, match="nobody can be taken for an impostor"):
        find_operating_point(on_a_line(1), ada, on_a_line(), [], 0.5)
    with pytest.raises(InputError, match="distance of 0 from the gallery"):
        find_operating_point(*strangers(0, 0, 0, 1), 0.1, allow_few=True)
    with pytest.raises(InputError, match="probe 2 does not say who walks there"):
        find_operating_point(on_a_line(1, 2), [Walk("Eve"), Walk(None)], on_a_line(0), ada, 0.5)


@pytest.mark.parametrize("with_rejects", [True, False])
def test_what_is_stored_is_read_again(with_rejects: bool) -> None:
    gallery, records = crowd(6, 10, 2)
    probes, walks = crowd(6 if with_rejects else 7, 40, 2)
    point = find_operating_point(probes, walks, gallery, records, 0.1)
    assert (point.false_reject is not None) is with_rejects
    details = point.details()
    assert all(value is None or isinstance(value, (int, float)) for value in details.values())
    assert details["false_accept_rate"] == point.false_accept.rate
    assert OperatingPoint.from_details(json.loads(json.dumps(details))) == point


def test_what_is_no_operating_point() -> None:
    details = find_operating_point(*strangers(*range(1, 11)), 0.5).details()
    for wrong in ({}, {**details, "mood": 1}, {k: v for k, v in details.items() if k != "seed"}):
        with pytest.raises(GalleryError, match=r"cannot be read .*set it anew"):
            OperatingPoint.from_details(wrong)


def test_a_rate_is_a_plain_record() -> None:
    assert rate(np.array([True, False]), np.array([0, 1])) == Rate(0.5, 0.0, 1.0, 1, 2, 2)


def test_the_smallest_rates_take_more_people_than_there_are() -> None:
    with pytest.raises(InputError, match="needs walks of 1000000000000000 people"):
        check_support(5e-324, 300)
    check_support(5e-324, 300, allow_few=True)
