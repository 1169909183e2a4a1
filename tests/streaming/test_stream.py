"""A stream: exactly the whole walk so far, over gaps too, and unharmed by what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from bundles import UNEVEN, letter
from frame_engines import TINY, PixelFrames, pixel_network
from hypothesis import given
from hypothesis import strategies as st
from networks import random_silhouettes, random_weights
from numpy.typing import NDArray

from gaitedge.bundle import FOLD_GRAPH, FRAMES_GRAPH, Bundle, make_bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines import load
from gaitedge.errors import BundleError, InputError, SilhouetteError
from gaitedge.export.graph import build_frame_graph, build_graph
from gaitedge.streaming.stream import Gaps, Network, Stream, push_each

SMALL = GaitPartConfig(channels=(4, 8), strips=(1, 2, 4, 4), parts=4, embedding_dim=8)


@pytest.fixture
def engine() -> PixelFrames:
    return PixelFrames()


@pytest.fixture
def network(engine: PixelFrames) -> Network:
    return pixel_network(engine)


def bundle_of(config: GaitPartConfig) -> Bundle:
    weights = random_weights(config, 0)
    parts = {
        FOLD_GRAPH: build_graph(config, weights).SerializeToString(),
        FRAMES_GRAPH: build_frame_graph(config, weights).SerializeToString(),
    }
    return make_bundle(config, weights, parts, {})


def whole(network: Network, segments: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return network.head.whole([network.frames.part_features(segment) for segment in segments])


@pytest.mark.parametrize("config", [SMALL, UNEVEN], ids=["maximum", "mean"])
@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_after_any_silhouette_it_is_the_engines_embedding(name: str, config: GaitPartConfig) -> None:
    pytest.importorskip(name)
    bundle = bundle_of(config)
    network, reference = Network.load(bundle, name, threads=1), load(bundle, name, threads=1)
    stream, silhouettes = Stream(network), random_silhouettes(1, 12, 0)
    for length, silhouette in enumerate(silhouettes[0], 1):
        stream.push(silhouette)
        expected = reference.embed(silhouettes[:, :length])[0]
        np.testing.assert_allclose(stream.embedding(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
        assert stream.frames == length
    expected = letter(config, silhouettes)[0]
    np.testing.assert_allclose(stream.embedding(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert (network.fingerprint, network.config) == (bundle.fingerprint, config)


def test_a_bundle_is_opened_by_its_name(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = bundle_of(SMALL).save(tmp_path / "small.gait").path
    assert Network.load(str(path), "openvino", threads=1).frames.name == "openvino"
    with pytest.raises(BundleError, match="no bundle at"):
        Network.load(tmp_path / "nothing.gait")


@given(
    st.lists(st.tuples(st.integers(1, 6), st.lists(st.integers(0, 4), max_size=3)), min_size=1, max_size=6),
    st.integers(0, 4),
    st.sampled_from(["max", "mean"]),
    st.integers(0, 1000),
)
def test_a_short_gap_is_bridged_and_a_long_one_ends_a_segment(
    pieces: list[tuple[int, list[int]]], bridged: int, pooling: str, seed: int
) -> None:
    """pieces: silhouettes that came, and the gaps that were told behind them."""
    config = dataclasses.replace(TINY, temporal_pooling=pooling)
    network = pixel_network(PixelFrames(config))
    stream = Stream(network, Gaps(frames=bridged))
    silhouettes = random_silhouettes(1, sum(length for length, _ in pieces), seed)[0]
    segments: list[list[NDArray[np.uint8]]] = []
    at, missing = 0, 0
    for length, gaps in pieces:
        for silhouette in silhouettes[at : at + length]:
            if not segments or missing > bridged:
                segments.append([])
            missing = 0
            segments[-1].append(silhouette)
            stream.push(silhouette)
            expected = whole(network, [np.stack(segment) for segment in segments])
            np.testing.assert_allclose(stream.embedding(), expected, rtol=0, atol=1e-5)
        before = stream.embedding()
        for gap in gaps:
            stream.gap(frames=gap)
            missing += gap
        np.testing.assert_array_equal(stream.embedding(), before)  # a gap is no frame
        at += length
    assert (stream.frames, stream.segments) == (len(silhouettes), len(segments))


@pytest.mark.parametrize(
    ("told", "segments"),
    [
        ({"frames": 3}, 1),
        ({"frames": 4}, 2),
        ({"seconds": 0.12}, 1),
        ({"seconds": 0.16}, 2),
        ({"frames": 1, "seconds": 0.5}, 2),
    ],
)
def test_gaps_go_by_frames_or_by_the_clock(network: Network, told: dict[str, float], segments: int) -> None:
    stream = Stream(network)
    for silhouette in random_silhouettes(1, 2, 0)[0]:
        stream.gap(**told)  # type: ignore[arg-type]  # the first, before any silhouette, is no gap
        stream.push(silhouette)
    assert stream.segments == segments


def test_streams_of_one_call_are_streams_alone(network: Network, engine: PixelFrames) -> None:
    walks = random_silhouettes(3, 6, 0)
    streams = [Stream(network) for _ in walks]
    for silhouettes in walks.swapaxes(0, 1):
        push_each(streams, list(silhouettes))
    push_each([], [])
    assert engine.calls == [3] * 6
    for stream, walk in zip(streams, walks, strict=True):
        np.testing.assert_allclose(stream.embedding(), whole(network, [walk]), rtol=0, atol=1e-5)


def test_an_embedding_is_the_callers_own(network: Network) -> None:
    stream = Stream(network)
    stream.push(random_silhouettes(1, 1, 0)[0, 0])
    stream.embedding()[:] = np.nan
    assert np.isfinite(stream.embedding()).all()


def test_what_is_refused_changes_nothing(network: Network, engine: PixelFrames) -> None:
    silhouette = random_silhouettes(1, 1, 0)[0, 0]
    stream, other = Stream(network), Stream(Network(engine, network.head))
    with pytest.raises(InputError, match="no embedding before its first frame"):
        stream.embedding()
    stream.push(silhouette)
    before = stream.embedding()
    for wrong in (silhouette[None], silhouette[:, :40], silhouette.astype(bool)):
        with pytest.raises(SilhouetteError, match=r"an aligned silhouette must be uint8 \[64, 44\], not"):
            stream.push(wrong)
    with pytest.raises(SilhouetteError, match="must be a NumPy array, not list"):
        stream.push([[0]])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a stream takes one silhouette of a call"):
        push_each([stream, stream], [silhouette, silhouette])
    with pytest.raises(InputError, match="1 streams need as many silhouettes, not 2"):
        push_each([stream], [silhouette, silhouette])
    with pytest.raises(InputError, match="streams of different networks"):
        push_each([stream, other], [silhouette, silhouette])
    engine.failures.append(RuntimeError("the engine broke"))
    with pytest.raises(RuntimeError, match="the engine broke"):
        stream.push(silhouette)
    assert (stream.frames, stream.segments) == (1, 1)
    np.testing.assert_array_equal(stream.embedding(), before)


@pytest.mark.parametrize(("frames", "seconds"), [(-1, 0.0), (0, -0.1), (0, float("nan")), (0, float("inf"))])
def test_impossible_gaps_are_refused(network: Network, frames: int, seconds: float) -> None:
    with pytest.raises(InputError, match="a gap is 0 or more frames and seconds, not"):
        Stream(network).gap(frames=frames, seconds=seconds)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="a gap to bridge is 0 frames or more, not -1"):
        Gaps(frames=-1)
    with pytest.raises(InputError, match="a gap to bridge is 0 seconds or more, not nan"):
        Gaps(seconds=float("nan"))
