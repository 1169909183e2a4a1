"""When who walks there is settled: from one identification after another to a decision.

    pending ──→ settled ──→ final
       │         ↺ revised    ↑
       └──────────────────────┘ the track ends

While a person walks, the embedding is made of more and more frames, and the first ones say little. Nobody is
named before a gait cycle was seen and several looks in a row were clear and said the same. What was settled
may be revised, by more looks that are clearer: a name that flickers is worse than one that comes late.
When the track ends the decision is final: what was settled, else the best that is known, else "undecided".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gaitedge.errors import InputError
from gaitedge.people.identification import Identification

__all__ = ["Decider", "Decision", "DecisionSettings"]

State = Literal["pending", "settled", "final"]
Verdict = Literal["known", "unknown", "undecided"]


@dataclass(frozen=True)
class DecisionSettings:
    """What a decision asks for; docs/streaming.md has the figures behind the defaults.

    Raises InputError where a value is out of range.
    """

    frames: int = 25
    """Silhouettes before anything is settled, and at a track's end before anything is said: about a gait
    cycle at 25 a second."""
    checks: int = 3
    """Clear looks in a row, with the same answer, that settle it."""
    margin: float = 0.1
    """Least distance from the nearest person to the second, as a share of the second's."""
    clearance: float = 0.05
    """Least difference of the nearest person's distance from the threshold, on either side, as its share."""
    revise_checks: int = 6
    """Clear looks in a row with another answer that revise what was settled."""
    revise_margin: float = 0.15
    """The margin that these need."""

    def __post_init__(self) -> None:
        for name in ("frames", "checks", "revise_checks"):
            if getattr(self, name) < 1:
                raise InputError(f"a decision's {name} must be 1 or more, not {getattr(self, name)}")
        for name in ("margin", "clearance", "revise_margin"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"a decision's {name} is a share from 0 to 1, not {getattr(self, name)}")
        if self.revise_checks < self.checks or self.revise_margin < self.margin:
            raise InputError(
                "to revise a decision must take as many checks and as much margin as to settle it"
            )


@dataclass(frozen=True)
class Decision:
    """Who walks there, as far as that is known."""

    state: State
    verdict: Verdict
    """"undecided" while it is pending, and at the end of a track of too few frames."""
    subject: str | None
    """The person's name where the verdict is "known"."""
    settled: bool
    """Whether the verdict was ever settled; a final one may be just the best that is known."""
    frames: int
    """Silhouettes at the last look."""
    distance: float | None
    """Of the nearest person at the last look, whoever that was."""
    margin: float | None
    """The second person's distance less the nearest one's at the last look; None where there is no second."""
    threshold: float | None
    revisions: int
    """How often a settled verdict was replaced."""


class Decider:
    """The decision on one track."""

    def __init__(self, settings: DecisionSettings | None = None) -> None:
        self.settings = settings or DecisionSettings()
        self._settled: tuple[Verdict, str | None] | None = None
        self._leaning: tuple[Verdict, str | None] | None = None
        self._clear = 0  # looks in a row for what it leans to
        self._revisions = 0
        self._frames = 0
        self._last: Identification | None = None
        self._over = False

    def look(self, identification: Identification, frames: int) -> Decision:
        """Take the identification of all frames so far.

        identification: of two people or more, where so many are enrolled; frames: silhouettes that it is
        made of. A look without a new frame says nothing new and changes nothing. Raises InputError
        where there are fewer frames than at the last look, and after the end.
        """
        if self._over:
            raise InputError("this track has ended and its decision is final")
        if frames < 1 or frames < self._frames:
            raise InputError(f"a look at {frames} frames cannot follow one at {self._frames}")
        if not identification.matches:
            raise InputError("a decision needs an identification with at least one match")
        if frames > self._frames:
            self._frames, self._last = frames, identification
            if frames >= self.settings.frames:
                self._weigh(identification)
        return self._decision("settled" if self._settled else "pending", self._settled)

    def end(self) -> Decision:
        """The track has ended: the final decision, the same however often it is asked for."""
        self._over = True
        answer = self._settled
        if answer is None and self._last is not None and self._frames >= self.settings.frames:
            answer = _answer(self._last)
        return self._decision("final", answer)

    def _weigh(self, identification: Identification) -> None:
        answer = _answer(identification)
        revising = self._settled is not None and answer != self._settled
        margin = self.settings.revise_margin if revising else self.settings.margin
        if not self._is_clear(identification, margin):
            self._leaning, self._clear = None, 0
            return
        self._clear = self._clear + 1 if answer == self._leaning else 1
        self._leaning = answer
        if self._clear >= (self.settings.revise_checks if revising else self.settings.checks):
            self._settled = answer
            self._revisions += revising

    def _is_clear(self, identification: Identification, margin: float) -> bool:
        distance, threshold = identification.matches[0].distance, identification.threshold
        if threshold is not None and abs(distance - threshold) < self.settings.clearance * threshold:
            return False
        if identification.unknown or len(identification.matches) < 2:
            return True  # who of the enrolled would be nearest says nothing of somebody unknown
        second = identification.matches[1].distance
        return second - distance >= margin * second and second > distance

    def _decision(self, state: State, answer: tuple[Verdict, str | None] | None) -> Decision:
        verdict, subject = answer or ("undecided", None)
        matches = self._last.matches if self._last else ()
        return Decision(
            state=state,
            verdict=verdict,
            subject=subject,
            settled=self._settled is not None,
            frames=self._frames,
            distance=matches[0].distance if matches else None,
            margin=matches[1].distance - matches[0].distance if len(matches) > 1 else None,
            threshold=self._last.threshold if self._last else None,
            revisions=self._revisions,
        )


def _answer(identification: Identification) -> tuple[Verdict, str | None]:
    if identification.unknown:
        return "unknown", None
    return "known", identification.matches[0].subject
