"""From identifications to a decision: every arrow of the module's drawing, and what must not happen."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaitedge.errors import InputError
from gaitedge.people.identification import Identification, Match
from gaitedge.streaming.decision import Decider, Decision, DecisionSettings

SETTINGS = DecisionSettings(
    frames=10, checks=2, margin=0.1, clearance=0.05, revise_checks=4, revise_margin=0.2
)


def seen(*people: tuple[str, float], threshold: float | None = 1.0) -> Identification:
    """These people at these distances, the nearest first."""
    matches = tuple(Match(name, distance, None, None, 1) for name, distance in people)
    return Identification(matches, threshold is not None and matches[0].distance > threshold, threshold)


ANN = seen(("ann", 0.5), ("ben", 0.9))
BEN = seen(("ben", 0.5), ("ann", 0.9))
BARELY_ANN = seen(("ann", 0.85), ("ben", 0.9))
NOBODY = seen(("ann", 1.3), ("ben", 1.31))
AT_THE_THRESHOLD = (seen(("ann", 0.97), ("ben", 1.5)), seen(("ann", 1.03), ("ben", 1.5)))


def track(
    *looks: Identification, start: int = 10, settings: DecisionSettings = SETTINGS
) -> tuple[Decider, Decision]:
    """A decider that had one look a frame, and its last answer."""
    decider = Decider(settings)
    for frames, look in enumerate(looks, start):
        decision = decider.look(look, frames)
    return decider, decision


def test_nothing_is_settled_before_enough_frames() -> None:
    decider, decision = track(*[ANN] * 9, start=1)
    assert (decision.state, decision.verdict, decision.subject, decision.frames) == (
        "pending",
        "undecided",
        None,
        9,
    )
    assert decider.look(ANN, 10).state == "pending"  # the first look that counts
    assert decider.look(ANN, 11).state == "settled"


def test_a_known_person_is_settled() -> None:
    _, decision = track(ANN, ANN)
    assert decision == Decision("settled", "known", "ann", True, 11, 0.5, pytest.approx(0.4), 1.0, 0)


def test_an_unknown_person_is_settled() -> None:
    _, decision = track(NOBODY, NOBODY)
    assert (decision.state, decision.verdict, decision.subject) == ("settled", "unknown", None)
    # Among the enrolled the nearest may change: none of them is meant.
    _, decision = track(NOBODY, seen(("ben", 1.3), ("ann", 1.31)))
    assert (decision.state, decision.verdict) == ("settled", "unknown")


@pytest.mark.parametrize("unclear", [BARELY_ANN, *AT_THE_THRESHOLD, seen(("ann", 0.0), ("ben", 0.0)), BEN])
def test_looks_must_be_clear_and_agree_in_a_row(unclear: Identification) -> None:
    decider, decision = track(ANN, unclear, ANN)
    assert decision.state == "pending"
    assert decider.look(ANN, 13).state == "settled"


def test_margins_are_shares_and_so_hold_for_any_network() -> None:
    for scale in (0.01, 1.0, 250.0):
        clear = seen(("ann", 0.8 * scale), ("ben", 0.9 * scale), threshold=scale)
        unclear = seen(("ann", 0.82 * scale), ("ben", 0.9 * scale), threshold=scale)
        assert track(clear, clear)[1].state == "settled"
        assert track(unclear, unclear)[1].state == "pending"


def test_without_a_threshold_the_margin_decides() -> None:
    near, far = (seen(("ann", d), ("ben", 2 * d), threshold=None) for d in (0.5, 50.0))
    assert track(near, far)[1].subject == "ann"


def test_of_one_person_the_threshold_decides() -> None:
    one = seen(("ann", 0.5))
    _, decision = track(one, one)
    assert (decision.state, decision.subject, decision.margin) == ("settled", "ann", None)
    assert track(*[seen(("ann", 0.97))] * 5)[1].state == "pending"


def test_a_settled_verdict_stands_against_what_is_unclear_or_short() -> None:
    decider, decision = track(ANN, ANN, BEN, BEN, BEN, BARELY_ANN, BEN, BEN, BEN)
    assert (decision.subject, decision.revisions) == ("ann", 0)
    # Clear enough to settle it once, not to revise it.
    weak = seen(("ben", 0.75), ("ann", 0.9))
    for frames in range(19, 40):
        decision = decider.look(weak, frames)
    assert (decision.subject, decision.revisions) == ("ann", 0)
    assert decider.end().subject == "ann"


@pytest.mark.parametrize(("other", "verdict", "subject"), [(BEN, "known", "ben"), (NOBODY, "unknown", None)])
def test_a_settled_verdict_is_revised(other: Identification, verdict: str, subject: str | None) -> None:
    decider, decision = track(ANN, ANN, *[other] * 3)
    assert (decision.subject, decision.revisions) == ("ann", 0)
    decision = decider.look(other, 15)
    assert (decision.state, decision.verdict, decision.subject) == ("settled", verdict, subject)
    assert decision.revisions == 1
    # And back again, at the same price.
    for frames in range(16, 20):
        assert decision.revisions == 1
        decision = decider.look(ANN, frames)
    assert (decision.subject, decision.revisions) == ("ann", 2)


def test_a_look_without_a_new_frame_says_nothing_new() -> None:
    decider, decision = track(ANN)
    for _ in range(5):
        decision = decider.look(BEN, 10)
    assert (decision.state, decision.distance, decision.frames) == ("pending", 0.5, 10)
    assert decider.look(ANN, 11).subject == "ann"


def test_the_end_of_a_settled_track() -> None:
    decider, _ = track(ANN, ANN, BARELY_ANN)
    decision = decider.end()
    assert (decision.state, decision.verdict, decision.subject, decision.settled) == (
        "final",
        "known",
        "ann",
        True,
    )
    assert decision == decider.end()
    with pytest.raises(InputError, match="this track has ended"):
        decider.look(ANN, 20)


@pytest.mark.parametrize(
    ("last", "verdict", "subject"),
    [
        (BARELY_ANN, "known", "ann"),
        (AT_THE_THRESHOLD[0], "known", "ann"),
        (AT_THE_THRESHOLD[1], "unknown", None),
    ],
)
def test_at_the_end_the_best_that_is_known_is_said(
    last: Identification, verdict: str, subject: str | None
) -> None:
    decision = track(ANN, last)[0].end()
    assert (decision.state, decision.verdict, decision.subject) == ("final", verdict, subject)
    assert not decision.settled


def test_a_track_of_too_few_frames_ends_undecided() -> None:
    decision = track(ANN, ANN, start=8)[0].end()
    assert (decision.state, decision.verdict, decision.subject, decision.frames) == (
        "final",
        "undecided",
        None,
        9,
    )
    decision = Decider().end()
    assert decision == Decision("final", "undecided", None, False, 0, None, None, None, 0)


LOOKS = st.sampled_from([ANN, BEN, NOBODY, BARELY_ANN, *AT_THE_THRESHOLD])


@given(st.lists(st.tuples(LOOKS, st.integers(0, 3)), min_size=1, max_size=60))
def test_what_always_holds(looks: list[tuple[Identification, int]]) -> None:
    decider, frames, decisions = Decider(SETTINGS), 1, []
    for look, new in looks:
        frames += new
        decisions.append(decider.look(look, frames))
    decisions.append(decider.end())
    for before, after in pairwise(decisions):
        assert (before.settled, before.frames) <= (after.settled, after.frames)
        if before.settled:
            changed = (before.verdict, before.subject) != (after.verdict, after.subject)
            assert after.revisions - before.revisions == changed
    for decision in decisions[:-1]:
        assert (decision.state == "settled") == decision.settled == (decision.verdict != "undecided")
        assert not decision.settled or decision.frames >= SETTINGS.frames
    for decision in decisions:
        assert (decision.subject is not None) == (decision.verdict == "known")
    assert (decisions[-1].verdict == "undecided") == (frames < SETTINGS.frames)


def test_looks_that_cannot_be_are_refused() -> None:
    decider, _ = track(ANN)
    with pytest.raises(InputError, match="a look at 9 frames cannot follow one at 10"):
        decider.look(ANN, 9)
    with pytest.raises(InputError, match="at least one match"):
        decider.look(dataclasses.replace(ANN, matches=()), 11)
    with pytest.raises(InputError, match="a look at 0 frames"):
        Decider().look(ANN, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 0}, "a decision's frames must be 1 or more, not 0"),
        ({"checks": 0}, "a decision's checks must be 1 or more"),
        ({"margin": 1.0}, "a decision's margin is a share from 0 to 1, not 1.0"),
        ({"clearance": float("nan")}, "a decision's clearance is a share"),
        ({"revise_checks": 1}, "must take as many checks and as much margin as to settle it"),
        ({"revise_margin": 0.01}, "must take as many checks and as much margin as to settle it"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DecisionSettings(**wrong)  # type: ignore[arg-type]
