"""How hard the synthetic walkers are to tell apart: every spread that they are drawn with.

A subject is easy to recognise where BETWEEN is wide against WITHIN and NOISE. Change a number here
and every seed draws other walkers: raise `GENERATOR` with it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BETWEEN", "GENERATOR", "NOISE", "WITHIN"]

GENERATOR = 1
"""Version of the generator. Outputs of two versions are never mixed in one folder or store."""


@dataclass(frozen=True)
class Between:
    """Standard deviations between subjects, shares of the mean where no unit is given."""

    height: float = 0.05
    proportion: float = 0.04  # of each length by itself
    girth: float = 0.09  # of all radii together
    shape: float = 0.06  # of each radius by itself
    cycle: float = 0.07  # seconds
    swing: float = 0.09  # amplitude of a leg's joints
    offset: float = 2.5  # degrees, mean angle of hip, knee and ankle
    harmonics: tuple[float, ...] = (2.2, 1.8, 1.2)  # degrees, coefficients of a leg's curves by harmonic
    asymmetry: float = 0.9  # degrees, every coefficient, half the difference of left and right
    arms: float = 0.30  # logarithm of the arms' swing
    posture: float = 1.0  # factor on the spreads of lean, head, arm carriage, turns and sways


@dataclass(frozen=True)
class Within:
    """Standard deviations between walks of one subject, shares of the mean where no unit is given."""

    speed: float = 0.04  # cut at 8 %
    girth: float = 0.015  # cut at 5 %: everyday clothes
    arms: float = 0.09
    lean: float = 0.8  # degrees
    elbow: float = 3.0  # degrees
    head: float = 1.5  # degrees
    stride: float = 0.02  # cadence, from one stride to the next
    pose: float = 0.7  # degrees, of a joint from frame to frame, smooth


@dataclass(frozen=True)
class Noise:
    """What background subtraction does to a silhouette."""

    ragged: tuple[float, float] = (0.0, 0.6)  # pixels, a border's deviation from row to row: its range
    border: float = 0.35  # pixels, deviation of a whole sequence's borders
    holes: float = 1.0  # missing bits that begin in ten frames, about
    hole_radius: tuple[float, float] = (0.012, 0.045)  # metres


BETWEEN, WITHIN, NOISE = Between(), Within(), Noise()
