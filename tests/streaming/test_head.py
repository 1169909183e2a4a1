"""The temporal head, whole and one frame at a time, against PyTorch's and against itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from bundles import PAPER, UNEVEN
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import configs, random_weights
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError, WeightsError
from gaitedge.streaming.head import TemporalHead

Array = NDArray[np.float32]
LENGTHS = range(1, 41)
TINY = GaitPartConfig(channels=(8,), strips=(1, 1), parts=3, embedding_dim=5)


def draw_features(config: GaitPartConfig, frames: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((frames, config.parts, config.features), dtype=np.float32)


def in_pytorch(config: GaitPartConfig, features: Array) -> Array:
    """The paper's letter, of weights of seed 0."""
    torch = pytest.importorskip("torch")
    from gaitedge.model import GaitPart

    torch.set_num_threads(1)
    with torch.inference_mode():
        model = GaitPart(config).load(random_weights(config, 0))
        return np.asarray(model.temporal_head(torch.from_numpy(features)[None], letter=True)[0].numpy())


def head_of(config: GaitPartConfig) -> TemporalHead:
    return TemporalHead(config, random_weights(config, 0))


def assert_same(found: Array, expected: Array) -> None:
    """Within float32's rounding of sums of some hundred values."""
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * scale)


@settings(max_examples=60)
@given(configs(), st.integers(1, 40), st.integers(0, 1000))
def test_a_whole_walk_is_pytorchs(config: GaitPartConfig, frames: int, seed: int) -> None:
    features = draw_features(config, frames, seed)
    assert_same(head_of(config).whole([features]), in_pytorch(config, features))


@settings(max_examples=40)
@given(configs(), st.integers(0, 1000))
def test_after_any_frame_it_is_the_whole_walk_so_far(config: GaitPartConfig, seed: int) -> None:
    head, features = head_of(config), draw_features(config, LENGTHS[-1], seed)
    state = head.begin()
    for length in LENGTHS:
        head.push([state], features[length - 1 : length])
        assert_same(head.embeddings([state])[0], head.whole([features[:length]]))
        assert state.frames == length


@pytest.mark.parametrize("config", [PAPER, UNEVEN, dataclasses.replace(PAPER, temporal_pooling="mean")])
def test_every_length_is_pytorchs_after_its_last_frame(config: GaitPartConfig) -> None:
    head, features = head_of(config), draw_features(config, LENGTHS[-1], 0)
    state = head.begin()
    for length in LENGTHS:
        head.push([state], features[length - 1 : length])
        assert_same(head.embeddings([state])[0], in_pytorch(config, features[:length]))


@settings(max_examples=40)
@given(configs(), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 1000))
def test_segments_see_nothing_of_each_other(config: GaitPartConfig, lengths: list[int], seed: int) -> None:
    """Of the micro-motions of each segment by itself, TP over all: an average of averages, weighted."""
    head, features = head_of(config), draw_features(config, sum(lengths), seed)
    segments = np.split(features, np.cumsum(lengths)[:-1])
    state = head.begin()
    for number, segment in enumerate(segments):
        if number:
            head.end_segment(state)
        for frame in segment:
            head.push([state], frame[None])
            so_far = [*segments[:number], segment[: state.frames - sum(lengths[:number])]]
            assert_same(head.embeddings([state])[0], head.whole(so_far))
    before = head.embeddings([state])
    head.end_segment(state)
    head.end_segment(state)  # of an empty segment: nothing
    assert_same(head.embeddings([state]), before)


def test_pooling_over_segments_is_pytorchs() -> None:
    """FC is linear: the mean over segments is the weighted mean of embeddings; of a maximum it is not, but
    with an FC that is the identity an embedding is the pooled vector itself."""
    identity = np.broadcast_to(np.eye(8, dtype=np.float32), (3, 8, 8))
    for pooling in ("mean", "max"):
        config = dataclasses.replace(TINY, embedding_dim=8, temporal_pooling=pooling)
        weights = {**random_weights(config, 0), "fc": identity}
        head, segments = TemporalHead(config, weights), [draw_features(config, t, t) for t in (1, 7, 2)]
        alone = np.stack([in_pytorch_of(config, weights, segment) for segment in segments])
        shares = np.array([0.1, 0.7, 0.2])[:, None, None]
        expected = (alone * shares).sum(axis=0) if pooling == "mean" else alone.max(axis=0)
        assert_same(head.whole(segments), expected.astype(np.float32))


def in_pytorch_of(config: GaitPartConfig, weights: dict[str, Array], features: Array) -> Array:
    torch = pytest.importorskip("torch")
    from gaitedge.model import GaitPart

    with torch.inference_mode():
        model = GaitPart(config).load(weights)
        return np.asarray(model.temporal_head(torch.from_numpy(features)[None], letter=True)[0].numpy())


@settings(max_examples=30)
@given(configs(), st.lists(st.integers(0, 7), min_size=2, max_size=5), st.integers(0, 1000))
def test_streams_together_are_streams_alone(config: GaitPartConfig, ahead: list[int], seed: int) -> None:
    """ahead: what each stream has seen before the others join it."""
    head = head_of(config)
    walks = [draw_features(config, before + 6, seed + i) for i, before in enumerate(ahead)]
    states = [head.begin() for _ in walks]
    for state, walk, before in zip(states, walks, ahead, strict=True):
        for frame in walk[:before]:
            head.push([state], frame[None])
    for step in range(6):
        head.push(states, np.stack([walk[at + step] for walk, at in zip(walks, ahead, strict=True)]))
    for found, walk in zip(head.embeddings(states), walks, strict=True):
        assert_same(found, head.whole([walk]))


def test_a_long_walk_is_exact_and_takes_no_more_memory() -> None:
    for pooling in ("max", "mean"):
        config = dataclasses.replace(TINY, temporal_pooling=pooling)
        head, features = head_of(config), draw_features(config, 3000, 0)
        state = head.begin()
        for frame in features:
            head.push([state], frame[None])
        assert (state.recent.shape, state.pooled.shape) == ((4, 3, 8), (3, 8))
        assert_same(head.embeddings([state])[0], head.whole([features]))
        assert_same(head.whole([features]), in_pytorch(config, features))


def test_extreme_features_overflow_nowhere() -> None:
    head = head_of(TINY)
    with np.errstate(over="raise", invalid="raise"):
        found = head.whole([draw_features(TINY, 5, 0) * np.float32(1e6)])
    assert np.isfinite(found).all()


def test_what_does_not_fit_is_refused() -> None:
    head = head_of(TINY)
    state, feature = head.begin(), draw_features(TINY, 1, 0)
    with pytest.raises(InputError, match="no embedding before its first frame"):
        head.embeddings([state])
    with pytest.raises(InputError, match="no embedding before its first frame"):
        head.whole([])
    with pytest.raises(InputError, match=r"must be \[2, 3, 8\], none of them 0, not \[1, 3, 8\]"):
        head.push([state, head.begin()], feature)
    with pytest.raises(InputError, match=r"not \[1, 2, 8\]"):
        head.whole([feature[:, :2]])
    with pytest.raises(InputError, match=r"none of them 0, not \[0, 3, 8\]"):
        head.whole([feature[:0]])
    with pytest.raises(InputError, match="a stream takes one frame of a push"):
        head.push([state, state], np.concatenate([feature, feature]))
    assert (state.frames, state.held) == (0, 0)
    with pytest.raises(WeightsError, match="missing"):
        TemporalHead(TINY, {})
