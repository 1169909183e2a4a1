"""Who walks: bodies and gaits, and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaitedge.walkers.hardness import BETWEEN

__all__ = ["HARMONICS", "Body", "Curve", "Gait", "cut_normal", "draw_body", "draw_gait"]

HARMONICS = 3  # of a joint's curve

Curve = tuple[float, ...]
"""Degrees over the gait cycle: the mean, then cosine and sine of each harmonic. The cycle begins
with the heel strike of the leg on the joint's own side."""


@dataclass(frozen=True)
class Body:
    """Lengths and radii in metres."""

    height: float
    # Lengths from joint to joint; widths from the middle to a joint.
    thigh: float
    shank: float
    ankle: float
    foot: float
    trunk: float
    neck: float
    head: float
    upper_arm: float
    forearm: float
    hand: float
    hip_width: float
    shoulder_width: float
    chest_width: float
    waist_width: float
    slope: float  # of the shoulders: how far the joints lie below the neck's base
    hunch: float  # how far the shoulders are carried forwards
    # Radii.
    upper_thigh: float
    knee: float
    calf: float
    ankle_girth: float
    sole: float
    hips: float
    waist: float
    chest: float
    belly: float  # how far it stands out
    bust: float  # likewise
    shoulder: float
    elbow: float
    wrist: float
    neck_girth: float
    face: float
    skull: float
    hair: float  # added at the back of the head


@dataclass(frozen=True)
class Gait:
    """Angles in degrees, lags in radians of the right leg's cycle; pairs are (right, left)."""

    cycle: float  # seconds
    hip: tuple[Curve, Curve]
    knee: tuple[Curve, Curve]
    ankle: tuple[Curve, Curve]
    arm: tuple[Curve, Curve]
    elbow: tuple[Curve, Curve]
    spread: tuple[float, float]  # of the arms from the body
    foot_out: tuple[float, float]
    inwards: float  # turn of the forearms
    straddle: float  # of the legs; negative where the feet fall on one line
    lean: float  # of the trunk
    nod: float  # of the trunk, twice a cycle
    nod_lag: float
    roll: float  # of the trunk to the side
    sway: float  # metres, of the hips to the side
    sway_lag: float
    pelvis_turn: float
    pelvis_lag: float
    pelvis_drop: float  # centimetres, of the swinging leg's hip
    chest_turn: float
    chest_lag: float
    neck: float  # forwards
    head_pitch: float


# Level walking at tenths of the cycle: hips swing from 28 to -14 degrees, knees flex by 60 in
# swing, ankles push off at 0.6; after textbook curves.
_HIP = (25.0, 20.0, 10.0, 2.0, -8.0, -14.0, -9.0, 9.0, 23.0, 28.0)
_KNEE = (4.0, 16.0, 14.0, 7.0, 5.0, 12.0, 36.0, 60.0, 48.0, 16.0)
_ANKLE = (0.0, -5.0, 3.0, 7.0, 10.0, 5.0, -15.0, -9.0, 0.0, 2.0)

_MEAN_HEIGHT = 1.70
# Shares of the height.
_LENGTHS = {
    "thigh": 0.245, "shank": 0.240, "ankle": 0.035, "foot": 0.128, "trunk": 0.295, "neck": 0.062,
    "head": 0.052, "upper_arm": 0.178, "forearm": 0.146, "hand": 0.045, "hip_width": 0.052,
    "shoulder_width": 0.112, "chest_width": 0.050, "waist_width": 0.040,
}  # fmt: skip
# Metres, at the mean height.
_RADII = {
    "upper_thigh": 0.082, "knee": 0.054, "calf": 0.053, "ankle_girth": 0.038, "sole": 0.036,
    "hips": 0.098, "waist": 0.094, "chest": 0.104, "shoulder": 0.054, "elbow": 0.041,
    "wrist": 0.032, "neck_girth": 0.056, "face": 0.070, "skull": 0.090,
}  # fmt: skip
_LEAN_RADII = ("face", "skull", "sole", "wrist")  # grow little with weight


def cut_normal(rng: np.random.Generator, mean: float, deviation: float) -> float:
    """A normal draw, cut at 2.5 deviations."""
    return float(mean + deviation * np.clip(rng.standard_normal(), -2.5, 2.5))


def draw_body(rng: np.random.Generator) -> Body:
    """A grown-up's body. The order of the draws is part of what a seed means."""
    height = _MEAN_HEIGHT * cut_normal(rng, 1, BETWEEN.height)
    lengths = {
        name: share * height * cut_normal(rng, 1, BETWEEN.proportion) for name, share in _LENGTHS.items()
    }
    stout = cut_normal(rng, 1, BETWEEN.girth) * height / _MEAN_HEIGHT
    radii = {name: radius * stout * cut_normal(rng, 1, BETWEEN.shape) for name, radius in _RADII.items()}
    for name in _LEAN_RADII:
        radii[name] /= stout**0.7
    return Body(
        height=height,
        **lengths,
        **radii,
        slope=cut_normal(rng, 0.022, 0.012 * BETWEEN.posture),
        hunch=cut_normal(rng, 0.012, 0.014 * BETWEEN.posture),
        belly=max(cut_normal(rng, 0.02, 0.025), 0.0),
        bust=max(cut_normal(rng, 0.01, 0.018), 0.0),
        hair=max(cut_normal(rng, 0.004, 0.014), 0.0),
    )


def draw_gait(rng: np.random.Generator) -> Gait:
    """A grown-up's way to walk. The order of the draws is part of what a seed means."""

    def draw(mean: float, deviation: float) -> float:
        return cut_normal(rng, mean, deviation)

    posture = BETWEEN.posture
    swing = 20.0 * float(np.exp(draw(0, BETWEEN.arms)))
    bend = 9.0 * float(np.exp(draw(0, BETWEEN.arms)))
    arm_lag = draw(0.15, 0.2)
    return Gait(
        cycle=draw(1.10, BETWEEN.cycle),
        hip=_draw_leg(rng, _HIP, 1.0),
        knee=_draw_leg(rng, _KNEE, 1.3),
        ankle=_draw_leg(rng, _ANKLE, 1.0),
        arm=_draw_arm(rng, draw(-1.0, 5.0 * posture), swing, arm_lag, draw(0, 2.0)),
        elbow=_draw_arm(rng, draw(22.0, 8.0 * posture), bend, arm_lag + draw(0.2, 0.2), draw(0, 1.5)),
        spread=(draw(7.0, 2.5 * posture), draw(7.0, 2.5 * posture)),
        foot_out=(draw(7.0, 4.0), draw(7.0, 4.0)),
        inwards=draw(12.0, 8.0 * posture),
        straddle=draw(-2.3, 1.0),
        lean=draw(3.0, 2.5 * posture),
        nod=draw(0.8, 0.5 * posture),
        nod_lag=draw(0.5, 0.3),
        roll=draw(1.2, 0.8 * posture),
        sway=draw(0.018, 0.008 * posture),
        sway_lag=draw(-0.6, 0.3),
        pelvis_turn=draw(5.0, 2.0 * posture),
        pelvis_lag=draw(0.0, 0.3),
        pelvis_drop=draw(1.2, 0.6 * posture),
        chest_turn=draw(6.0, 2.5 * posture),
        chest_lag=draw(0.0, 0.3),
        neck=draw(12.0, 6.0 * posture),
        head_pitch=draw(4.0, 5.0 * posture),
    )


def _draw_leg(rng: np.random.Generator, mean: tuple[float, ...], scale: float) -> tuple[Curve, Curve]:
    """One joint's curves. scale: of this joint's spreads against the hip's."""
    own = _series(np.array(mean))
    own[1:] *= cut_normal(rng, 1, BETWEEN.swing)
    own[0] += cut_normal(rng, 0, BETWEEN.offset * scale)
    own[1:] += np.repeat(BETWEEN.harmonics, 2) * scale * np.clip(rng.standard_normal(own.size - 1), -2.5, 2.5)
    tilt = BETWEEN.asymmetry * scale * np.clip(rng.standard_normal(own.size), -2.5, 2.5)
    return tuple((own + tilt).tolist()), tuple((own - tilt).tolist())


def _draw_arm(
    rng: np.random.Generator, mean: float, swing: float, lag: float, second: float
) -> tuple[Curve, Curve]:
    """One joint's curves: an arm swings against the leg of its side."""

    def side() -> Curve:
        amplitude = swing * cut_normal(rng, 1, 0.10)
        own_lag = lag + cut_normal(rng, 0, 0.08)
        own_mean = mean + cut_normal(rng, 0, 2.0)
        first = (-amplitude * float(np.cos(own_lag)), -amplitude * float(np.sin(own_lag)))
        return (own_mean, *first, second, -0.5 * second)

    return side(), side()


def _series(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Fourier coefficients, as of a Curve, of values at equal steps over a cycle."""
    phase = 2 * np.pi * np.arange(values.size) / values.size
    waves: tuple[Callable[..., NDArray[np.float64]], ...] = (np.cos, np.sin)
    terms = [float(np.mean(values))]
    for harmonic in range(1, HARMONICS + 1):
        terms += [2 * float(np.mean(values * wave(harmonic * phase))) for wave in waves]
    return np.array(terms)
