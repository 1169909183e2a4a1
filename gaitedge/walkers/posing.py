"""From a body, a gait and one walk to capsules: joint angles, the skeleton, clothes and bags.

Angles are in degrees. A thigh or an arm swings forwards to positive angles, knees and elbows flex
to positive angles, toes rise to positive angles. Axes: x along the walk, y to the walker's left,
z up. Sides are numbered 0 right and 1 left; `left` is -1 and +1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gaitedge.walkers.bodies import Body, Curve, Gait
from gaitedge.walkers.rendering import Capsules

__all__ = ["Bag", "BagKind", "Coat", "Walk", "pose", "stride"]

Floats = NDArray[np.float64]

BagKind = Literal["backpack", "shoulder", "hand"]

_STANCE = 0.60  # share of the cycle during which a foot is on the ground
_SIDES = ((0, -1), (1, 1))


@dataclass(frozen=True)
class Coat:
    """A garment over torso, arms and thighs. Lengths in metres."""

    torso: float = 0.0  # added to the torso's radii
    sleeves: float = 0.0  # added to the arms' radii
    hem: float = 0.0  # where it ends: 0 at the hip, 1 at the knee
    flare: float = 0.0  # radius at the hem
    swing: float = 0.0  # how far the hem follows the thighs, 0 to 1
    head: float = 0.0  # added to the head's radius: hat or hood
    brim: float = 0.0  # how far a hat's brim stands out; 0: no brim
    trousers: float = 0.0  # added to the shanks' radii


@dataclass(frozen=True)
class Bag:
    """A bag. Lengths in metres."""

    kind: BagKind
    left: int  # -1 or +1; of no meaning for a backpack
    width: float  # half of its extent
    height: float  # half of its extent
    radius: float  # of its rounded body
    still: float  # share of its swing that is left to the arm on its side
    drop: float  # its top below the hips (shoulder bag) or below the neck (backpack)


@dataclass(frozen=True)
class Walk:
    """What differs from one walk of a subject to the next. Factors are about 1."""

    phase: Floats  # [frames], radians of the right leg's cycle
    noise: Floats  # [frames, 12], degrees, smooth in time
    speed: float  # factor on the legs' swing
    arms: float  # factor on the arms' swing
    girth: float  # factor on every radius
    lean: float  # added to the trunk's lean
    elbow: float  # added to the elbows' flexion
    head: float  # added to the head's pitch
    coat: Coat | None
    bag: Bag | None


def stride(body: Body, gait: Gait, speed: float) -> float:
    """Metres that one gait cycle carries this walker: what a foot on the ground is moved back
    during its stance, over the stance's share of the cycle. speed: as in Walk."""
    phase = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    reach = 0.0
    for side, _ in _SIDES:
        hip = _curve(gait.hip[side], phase, speed)
        shank = hip - _curve(gait.knee[side], phase, speed)
        ankle = body.thigh * np.sin(np.deg2rad(hip)) + body.shank * np.sin(np.deg2rad(shank))
        reach += float(np.ptp(ankle))
    return reach / 2 / _STANCE


def pose(body: Body, gait: Gait, walk: Walk) -> Capsules:
    """The walker in every frame, on the spot: the hips' middle sways about x = y = 0 and the lower
    foot stands on z = 0."""
    return _Figure(body, gait, walk).capsules()


class _Figure:
    """The capsules of one walk, built limb by limb."""

    def __init__(self, body: Body, gait: Gait, walk: Walk) -> None:
        self.body, self.gait, self.walk = body, gait, walk
        self.coat = walk.coat or Coat()
        self.starts: list[Floats] = []
        self.ends: list[Floats] = []
        self.radii: list[tuple[float, float]] = []
        self.soles: list[Floats] = []
        self.hems: list[Floats] = []

        # The pelvis turns with the leading leg, the shoulders against it.
        phase, noise = walk.phase, walk.noise
        self.zero = np.zeros_like(phase)
        self.pelvis_yaw = gait.pelvis_turn * np.cos(phase + gait.pelvis_lag)
        self.chest_yaw = -gait.chest_turn * np.cos(phase + gait.chest_lag)
        self.lean = gait.lean + walk.lean + gait.nod * np.cos(2 * phase + gait.nod_lag) + 0.6 * noise[:, 0]
        self.roll = gait.roll * np.sin(phase + gait.sway_lag) + 0.5 * noise[:, 1]
        lean, roll = np.deg2rad(self.lean), np.deg2rad(self.roll)
        self.spine = np.stack(
            [np.sin(lean), np.cos(lean) * np.sin(roll), np.cos(lean) * np.cos(roll)], axis=-1
        )
        self.pelvis = np.stack([self.zero, gait.sway * np.sin(phase + gait.sway_lag), self.zero], axis=-1)
        self.neck = self.pelvis + body.trunk * self.spine
        self.hunch = _turned(body.hunch, 0.0, 0.0, self.chest_yaw)

    def capsules(self) -> Capsules:
        for side, left in _SIDES:
            self.leg(side, left)
            shoulder = (self.neck + self.hunch) + _turned(
                0.0, left * self.body.shoulder_width, -self.body.slope, self.chest_yaw
            )
            hand, swing = self.arm(side, left, shoulder)
            self.flank(left, shoulder)
            self.carried(left, hand, swing)
        self.middle()
        self.head()
        self.backpack()
        ground = np.zeros((self.zero.size, 1, 3))
        ground[:, 0, 2] = -np.minimum.reduce(self.soles)
        return Capsules(
            start=np.stack(self.starts, axis=1) + ground,
            end=np.stack(self.ends, axis=1) + ground,
            start_radius=np.array([pair[0] for pair in self.radii]),
            end_radius=np.array([pair[1] for pair in self.radii]),
        )

    def add(self, start: Floats, end: Floats, start_radius: float, end_radius: float) -> None:
        self.starts.append(start)
        self.ends.append(end)
        self.radii.append((start_radius * self.walk.girth, end_radius * self.walk.girth))

    def cycle(self, left: int) -> Floats:
        """The phase of one side's own cycle: half a cycle apart."""
        return self.walk.phase + (np.pi if left > 0 else 0.0)

    def leg(self, side: int, left: int) -> None:
        body, gait, walk, coat = self.body, self.gait, self.walk, self.coat
        cycle, noise = self.cycle(left), walk.noise
        swing = _curve(gait.hip[side], cycle, walk.speed) + noise[:, 2 + side]
        flexion = np.maximum(_curve(gait.knee[side], cycle, walk.speed) + noise[:, 4 + side], -2.0)
        aside = left * (gait.straddle + 0.25 * noise[:, 2 + side])
        drop = gait.pelvis_drop * np.sin(walk.phase) * 0.01
        yaw = 0.4 * self.pelvis_yaw
        hip = self.pelvis + _turned(0.0, left * body.hip_width, -left * drop, self.pelvis_yaw)
        knee = hip + body.thigh * _hanging(swing, aside, yaw)
        ankle = knee + body.shank * _hanging(swing - flexion, aside * 0.6, yaw)
        pitch = swing - flexion + _curve(gait.ankle[side], cycle)
        out = left * np.full_like(self.zero, gait.foot_out[side])
        toes = _hanging(90 + np.clip(pitch, -75, 40), 0.0, out)
        heel = ankle - 0.22 * body.foot * toes - body.ankle * _hanging(180 + pitch, 0.0, self.zero)
        toe = heel + body.foot * toes
        calf = ankle + (knee - ankle) * 0.70
        calf[:, 0] -= 0.25 * body.calf
        heel_radius, toe_radius, cloth = body.sole * 1.1, body.sole * 0.8, coat.trousers
        self.add(hip, knee, body.upper_thigh, body.knee)
        self.add(knee, calf, body.knee + 0.6 * cloth, body.calf + cloth)
        self.add(calf, ankle, body.calf + cloth, body.ankle_girth + 1.2 * cloth)
        self.add(ankle, heel, body.ankle_girth, heel_radius)
        self.add(heel, toe, heel_radius, toe_radius)
        self.soles += [heel[:, 2] - heel_radius * walk.girth, toe[:, 2] - toe_radius * walk.girth]
        if walk.coat:
            hem = hip + coat.hem * body.thigh * _hanging(swing * coat.swing, aside, yaw)
            self.hems.append(hem)
            self.add(hip, hem, body.hips + 0.6 * coat.torso, coat.flare)

    def holds(self, left: int) -> Bag | None:
        """The bag on this side, if there is one."""
        bag = self.walk.bag
        return bag if bag is not None and bag.kind != "backpack" and bag.left == left else None

    def arm(self, side: int, left: int, shoulder: Floats) -> tuple[Floats, Floats]:
        """Returns where the hand is, [frames, 3], and the upper arm's swing, [frames]."""
        body, gait, walk, sleeve = self.body, self.gait, self.walk, self.coat.sleeves
        bag, cycle = self.holds(left), self.cycle(left)
        factor = walk.arms * (bag.still if bag else 1.0)
        swing = _curve(gait.arm[side], cycle, factor) + 1.2 * walk.noise[:, 6 + side]
        flexion = walk.elbow + _curve(gait.elbow[side], cycle, factor) + 1.5 * walk.noise[:, 8 + side]
        flexion = np.maximum(flexion, 2.0)
        aside = left * (gait.spread[side] + 90.0 * sleeve + (4.0 if bag else 0.0))
        yaw = 0.6 * self.chest_yaw
        inwards = self.chest_yaw * 0.6 - left * gait.inwards
        elbow = shoulder + body.upper_arm * _hanging(swing, aside, yaw)
        wrist = elbow + body.forearm * _hanging(swing + flexion, aside * 0.6, inwards)
        hand = wrist + body.hand * _hanging(swing + flexion * 1.15, aside * 0.4, inwards)
        self.add(shoulder, elbow, body.shoulder + 0.8 * sleeve, body.elbow + sleeve)
        self.add(elbow, wrist, body.elbow + sleeve, body.wrist + 0.9 * sleeve)
        self.add(wrist, hand, body.wrist, body.wrist * 0.95)
        return hand, swing

    def flank(self, left: int, shoulder: Floats) -> None:
        """One side of the trunk, which is wider than deep: a column on each side and a bridge."""
        body, cloth = self.body, self.coat.torso
        chest = self.neck - 0.24 * body.trunk * self.spine
        chest = chest + _turned(0.0, left * body.chest_width, 0.0, self.chest_yaw)
        waist = self.pelvis + 0.36 * body.trunk * self.spine
        waist = waist + _turned(0.0, left * body.waist_width, 0.0, self.pelvis_yaw)
        seat = self.pelvis + _turned(-0.01, left * body.hip_width * 0.85, 0.02, self.pelvis_yaw)
        self.add(chest, waist, body.chest + cloth, body.waist + cloth)
        self.add(waist, seat, body.waist + cloth, body.hips + cloth * 0.9)
        self.add(shoulder, chest, body.shoulder + 0.5 * cloth, body.chest + 0.8 * cloth)
        self.add(self.neck, shoulder, body.shoulder * 1.15, body.shoulder + 0.3 * cloth)

    def middle(self) -> None:
        """Belly and bust, and what a coat hangs between the thighs."""
        body, cloth, flare = self.body, self.coat.torso, self.coat.flare
        belly = self.pelvis + 0.34 * body.trunk * self.spine
        belly = belly + _turned(body.belly * 0.4, 0.0, 0.0, self.pelvis_yaw)
        bust = self.pelvis + 0.70 * body.trunk * self.spine
        bust = bust + _turned(body.bust * 0.4, 0.0, 0.0, self.chest_yaw)
        self.add(belly, bust, body.waist + 0.6 * body.belly + cloth, body.chest + 0.6 * body.bust + cloth)
        if self.hems:
            right, left = self.hems
            self.add(right, left, flare, flare)
            self.add(belly, (right + left) / 2, body.waist + cloth, flare)

    def head(self) -> None:
        body, gait, coat, yaw = self.body, self.gait, self.coat, self.chest_yaw
        tilt = gait.head_pitch + self.walk.head + 0.5 * self.lean + self.walk.noise[:, 10]
        base = self.neck + 0.4 * self.hunch
        top = base + body.neck * _hanging(180 - (0.6 * tilt + gait.neck), 0.5 * self.roll, self.zero)
        upwards = _hanging(180 - tilt, 0.5 * self.roll, 0.4 * yaw)
        chin = top + _turned(0.012, 0.0, 0.0, yaw)
        crown = chin + body.head * upwards
        nape = top + 0.55 * body.head * upwards - _turned(body.hair * 0.5 + 0.01, 0.0, 0.0, yaw)
        self.add(base, top, body.neck_girth + 0.4 * coat.torso, body.neck_girth + 0.3 * coat.head)
        self.add(chin, crown, body.face + coat.head * 0.5, body.skull + coat.head)
        self.add(nape, crown, body.skull * 0.85 + 0.5 * body.hair + coat.head, body.skull + coat.head)
        if coat.brim:
            rim, reach = chin + 0.8 * body.head * upwards, body.skull + coat.brim
            for out in (_turned(reach, 0.0, 0.0, yaw), _turned(0.0, reach, 0.0, yaw)):
                self.add(rim - out, rim + out, 0.012, 0.012)

    def carried(self, left: int, hand: Floats, swing: Floats) -> None:
        """A shoulder bag or a handbag: three level capsules, wider towards the bottom."""
        bag = self.holds(left)
        if bag is None:
            return
        if bag.kind == "hand":
            grip, angle = hand, 0.35 * swing
        else:
            out = left * (self.body.hip_width + self.body.hips + 0.5 * bag.radius)
            grip = self.pelvis + _turned(-0.03, out, bag.height - bag.drop, self.pelvis_yaw)
            angle = 0.3 * swing
        down = _hanging(angle, 0.0, self.zero)
        along = np.stack([-down[:, 2], self.zero, down[:, 0]], axis=-1)
        top = grip + 0.6 * bag.radius * down
        bottom = grip + (2 * bag.height + 0.6 * bag.radius) * down
        radius = max(bag.radius, 0.6 * bag.height)  # three levels leave no gap
        for share, width in ((0.0, 0.75), (0.5, 0.9), (1.0, 1.0)):
            level, half = top + share * (bottom - top), width * bag.width * along
            self.add(level - half, level + half, radius, radius)

    def backpack(self) -> None:
        bag = self.walk.bag
        if bag is None or bag.kind != "backpack":
            return
        behind = self.body.chest + 0.6 * bag.radius + self.coat.torso
        for _, left in _SIDES:
            top = self.neck - bag.drop * self.spine
            top = top + _turned(-behind, left * bag.width, 0.0, self.chest_yaw)
            self.add(top, top - 2 * bag.height * self.spine, bag.radius * 0.9, bag.radius)


def _curve(curve: Curve, phase: Floats, factor: float = 1.0) -> Floats:
    """A joint's angle at the given phases; the factor is on its swing about the mean."""
    value = np.full(phase.shape, curve[0])
    for index in range(1, len(curve), 2):
        angle = (index + 1) // 2 * phase
        value += curve[index] * np.cos(angle) + curve[index + 1] * np.sin(angle)
    return curve[0] + factor * (value - curve[0])


def _hanging(angle: Floats, aside: Floats | float, yaw: Floats) -> Floats:
    """Unit vectors, [frames, 3]: down, swung forwards by `angle`, to the left by `aside`, and then
    turned to the left about the vertical by `yaw`."""
    angle, aside = np.deg2rad(angle), np.deg2rad(aside)
    forwards, left = np.sin(angle), np.cos(angle) * np.sin(aside)
    return _turned(forwards, left, -np.cos(angle) * np.cos(aside), yaw)


def _turned(x: Floats | float, y: Floats | float, z: Floats | float, yaw: Floats) -> Floats:
    """The vector (x, y, z) in every frame, [frames, 3], turned about the vertical by `yaw`."""
    cos, sin = np.cos(np.deg2rad(yaw)), np.sin(np.deg2rad(yaw))
    return np.stack([x * cos - y * sin, x * sin + y * cos, np.broadcast_to(z, yaw.shape)], axis=-1)
