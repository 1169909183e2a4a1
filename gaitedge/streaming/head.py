"""GaitPart's temporal head (Eq. 3 to 12) in NumPy: over whole walks, and one frame at a time.

A frame reaches no micro-motion but those of two frames either side: template 2 has a window of 5, its
attention two convolutions of width 3 (Tab. 2). So the motion of frame t-2 is settled when frame t comes, and
enters the temporal pooling (Eq. 9 or 11) for good. The last two frames' motions are made with padding for
what is still to come, as the end of a walk has it, and count in the embedding of the moment alone. After
any frame the embedding is thus the whole walk's so far, within rounding.

What is remembered is the last four frames' part features, the settled maximum or sum and two counts, 40 kB
for the paper's network, however long the walk is.

Shapes: s walks or streams, t frames, n parts, C features, e the embedding's length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError
from gaitedge.weights import Weights, check_weights

__all__ = ["HeadState", "TemporalHead"]

SLOPE = 0.01  # of every LeakyReLU
REACH = 2  # frames either side that a frame's micro-motion sees
_FRAMES_AT_ONCE = 256  # of whole(): 12 MB of windows for the paper's network

Array = NDArray[np.float32]
Pooled = NDArray[np.float32] | NDArray[np.float64]
Flags = NDArray[np.bool_]


class HeadState:
    """What the head remembers of one stream; made by TemporalHead.begin()."""

    __slots__ = ("frames", "held", "pooled", "recent")

    def __init__(self, config: GaitPartConfig) -> None:
        size = (config.parts, config.features)
        self.recent: Array = np.zeros((2 * REACH, *size), np.float32)
        """The segment's last part features, the newest last; zeros where there is none."""
        self.held = 0
        """How many of them are frames."""
        self.frames = 0
        """Of all segments."""
        mean = config.temporal_pooling == "mean"
        # In float64, where the sum of ten hours is as exact as that of a second.
        self.pooled: Pooled = np.zeros(size, np.float64) if mean else np.full(size, -np.inf, np.float32)
        """The sum or the maximum of the settled micro-motions, [n, C]."""


class TemporalHead:
    """The micro-motion templates, TP and FC of one network.

    Safe to use from several threads with different states. Raises WeightsError where the weights are not
    those of the configuration.
    """

    def __init__(self, config: GaitPartConfig, weights: Weights) -> None:
        check_weights(config, weights, "these weights")
        self.config = config
        self._mean = config.temporal_pooling == "mean"
        self._squeeze = {template: _matrix(weights, f"mtb{template}.squeeze") for template in self._attending}
        self._excite = {template: _matrix(weights, f"mtb{template}.excite") for template in self._attending}
        self._fc = np.ascontiguousarray(weights["fc"])

    @property
    def _attending(self) -> tuple[int, ...]:
        return self.config.templates if self.config.attention else ()

    def begin(self) -> HeadState:
        """The state of a stream that has seen nothing."""
        return HeadState(self.config)

    def push(self, states: Sequence[HeadState], features: Array) -> None:
        """Take one frame of each of several streams. features: [s, n, C].

        The cost does not depend on how many frames came before; several streams together cost little more
        than one, for the weights are then read once. Raises InputError on another shape, and where a
        stream is named twice.
        """
        self._check(features, (len(states),))
        if len({id(state) for state in states}) != len(states):
            raise InputError("a stream takes one frame of a push; push its next one after it")
        settling = [state for state in states if state.held >= REACH]
        if settling:
            newest = features if len(settling) == len(states) else features[[s.held >= REACH for s in states]]
            x = np.concatenate([np.stack([state.recent for state in settling]), newest[:, None]], axis=1)
            for state, motion in zip(settling, self._motions(x, _last(settling, 1)), strict=True):
                state.pooled = self._pool(state.pooled, motion)
        for state, feature in zip(states, features, strict=True):
            state.recent[:-1] = state.recent[1:]
            state.recent[-1] = feature
            state.held = min(state.held + 1, 2 * REACH)
            state.frames += 1

    def end_segment(self, state: HeadState) -> None:
        """End a segment: the next frame begins another, and neither sees the other's frames."""
        if state.held:
            (motions,) = self._tails([state])
            state.pooled = self._pool(state.pooled, motions[-min(state.held, REACH) :])
            state.recent[:] = 0
            state.held = 0

    def embeddings(self, states: Sequence[HeadState]) -> Array:
        """The embeddings [s, n, e] of all that the streams have seen.

        Raises InputError where one has seen nothing.
        """
        if not all(state.frames for state in states):
            raise InputError("a stream has no embedding before its first frame")
        vectors = np.empty((len(states), self.config.parts, self.config.features), np.float32)
        for row, (state, motions) in enumerate(zip(states, self._tails(states), strict=True)):
            # Of a stream that has ended its segment nothing is held, and all is pooled.
            pooled = self._pool(state.pooled, motions[REACH - min(state.held, REACH) :])
            vectors[row] = pooled / state.frames if self._mean else pooled
        embeddings = vectors.transpose(1, 0, 2) @ self._fc  # each part's own layer (Sec. 3.1)
        return np.ascontiguousarray(embeddings.transpose(1, 0, 2))

    def whole(self, segments: Sequence[Array]) -> Array:
        """The embedding [n, e] of a walk in one or more segments, each [t, n, C].

        Every segment has padding at both ends, and TP runs over the frames of all. Raises InputError on
        another shape or without a frame.
        """
        state = self.begin()
        for features in segments:
            self._check(features, (len(features),))
            padded = np.pad(features, ((REACH, REACH), (0, 0), (0, 0)))
            there = np.zeros(len(padded), np.bool_)
            there[REACH : REACH + len(features)] = True
            for start in range(0, len(features), _FRAMES_AT_ONCE):
                window = slice(start, start + _FRAMES_AT_ONCE + 2 * REACH)
                motions = self._motions(padded[None, window], there[None, window])[0]
                state.pooled = self._pool(state.pooled, motions)
            state.frames += len(features)
        return np.asarray(self.embeddings([state])[0])

    def _tails(self, states: Sequence[HeadState]) -> Array:
        """The last two frames' motions, [s, 2, n, C]; what is no frame's is of no use."""
        recent = np.stack([state.recent for state in states])
        x = np.concatenate([recent, np.zeros_like(recent[:, :REACH])], axis=1)
        there = np.concatenate([_last(states, 0), np.zeros((len(states), REACH), np.bool_)], axis=1)
        return self._motions(x, there)

    def _pool(self, pooled: Pooled, motions: Array) -> Pooled:
        """TP (Eq. 9 or 11), as far as it has come, of some more motions [t, n, C]."""
        if not len(motions):
            return pooled
        if self._mean:
            return np.asarray(pooled + motions.sum(axis=0, dtype=np.float64))
        return np.asarray(np.maximum(pooled, motions.max(axis=0)))

    def _motions(self, x: Array, there: Flags) -> Array:
        """Micro-motions (Eq. 4 to 8) of all but the outer two frames, [s, t + 4, n, C] → [s, t, n, C].

        there: [s, t + 4], which of the frames are any; the others must be zeros.
        """
        hollow = np.where(there[..., None, None], x, np.float32(-np.inf)) if not there.all() else x
        total: Array | None = None
        for template in self.config.templates:
            motion = _window_mean(x, template) + _window_max(hollow, template)
            if self.config.attention:
                motion *= self._attention(x, there, template)
            total = motion if total is None else total + motion
        if total is None:
            raise InputError("a network has at least one template")
        return total

    def _attention(self, x: Array, there: Flags, template: int) -> Array:
        """The weights of Eq. 6 by channel, [s, t + 4, n, C] → [s, t, n, C]."""
        edge = REACH - (template - 1) - 1  # frames at either end that the two convolutions do not reach
        hidden = _convolve(x[:, edge : x.shape[1] - edge], self._squeeze[template], 3)
        np.maximum(hidden, SLOPE * hidden, out=hidden)
        # Padding of the second convolution is zero, not what the first makes of padding.
        hidden *= there[:, edge + 1 : x.shape[1] - edge - 1, None, None]
        logits = _convolve(hidden, self._excite[template], 2 * template - 1)
        return _sigmoid(logits)

    def _check(self, features: Array, leading: tuple[int, ...]) -> None:
        wanted = (*leading, self.config.parts, self.config.features)
        if features.shape != wanted or not features.size:
            raise InputError(
                f"part features must be {list(wanted)}, none of them 0, not {list(features.shape)}"
            )


def _matrix(weights: Weights, name: str) -> Array:
    """A Conv1d's weight [n, out, in, k] as each part's matrix, [n, k·in, out]."""
    weight = weights[name]
    parts, out, inputs, width = weight.shape
    return np.ascontiguousarray(weight.transpose(0, 3, 2, 1).reshape(parts, width * inputs, out))


def _convolve(x: Array, matrix: Array, width: int) -> Array:
    """Each part's Conv1d without padding: [s, t, n, in], [n, width·in, out] → [s, t - width + 1, n, out]."""
    frames = x.shape[1] - width + 1
    windows = np.concatenate([x[:, k : k + frames] for k in range(width)], axis=-1) if width > 1 else x
    rows = windows.reshape(-1, *windows.shape[2:]).transpose(1, 0, 2)  # a view: of each part its rows
    return np.asarray((rows @ matrix).transpose(1, 0, 2).reshape(*windows.shape[:3], -1))


def _window_mean(x: Array, template: int) -> Array:
    """Sliding average over 2·template + 1 frames, of all but the outer two."""
    first, last = REACH - template, x.shape[1] - 2 * REACH
    total: Array = x[:, first : first + last].copy()
    for k in range(1, 2 * template + 1):
        total += x[:, first + k : first + k + last]
    total *= np.float32(1 / (2 * template + 1))
    return total


def _window_max(x: Array, template: int) -> Array:
    """Sliding maximum over 2·template + 1 frames, of all but the outer two."""
    first, last = REACH - template, x.shape[1] - 2 * REACH
    highest: Array = x[:, first : first + last].copy()
    for k in range(1, 2 * template + 1):
        np.maximum(highest, x[:, first + k : first + k + last], out=highest)
    return highest


def _sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) in a form that overflows nowhere."""
    x *= np.float32(0.5)
    np.tanh(x, out=x)
    x += np.float32(1)
    x *= np.float32(0.5)
    return x


def _last(states: Sequence[HeadState], more: int) -> Flags:
    """Which of the four remembered places, and of `more` behind them, hold a frame: [s, 4 + more]."""
    held = np.array([state.held for state in states])[:, None]
    return np.arange(2 * REACH + more) >= 2 * REACH - held
