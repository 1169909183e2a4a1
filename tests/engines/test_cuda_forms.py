"""Where the kernels of a batch read and write: inside their memory, and nothing before it was written."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import configs, random_weights

from gaitedge import cuda
from gaitedge.config import GaitPartConfig
from gaitedge.engines import cuda_forms
from gaitedge.engines.cuda_forms import Batch, Places, make_network
from gaitedge.export.cuda import pack

SIZES = {cuda.FLOAT32: 4, cuda.FLOAT16: 2, cuda.INT8: 1, cuda.UINT8: 1}
PLACES = Places(silhouettes=1 << 40, offsets=2 << 40, scratch=3 << 40, embeddings=4 << 40)
BATCHES = st.builds(
    lambda sequences, frames, extra: Batch(sequences, 0 if extra else frames, sequences * frames + extra),
    st.integers(1, 5),
    st.integers(1, 40),
    st.sampled_from([0, 1, 300]),
)


def spans(launch: ctypes.Structure, batch: Batch) -> tuple[tuple[int, int], tuple[int, int]]:
    """What a launch reads and writes of the batch's tensors: address and bytes of each."""
    if isinstance(launch, cuda.FrameNetwork):
        return (launch.silhouettes, launch.frames * 64 * 44), (launch.features, launch.frames * 16 * 128 * 2)
    if isinstance(launch, cuda.FocalConv):
        pixels, shrunk = launch.height * launch.width, (launch.height // 2) * (launch.width // 2)
        read = launch.count * pixels * launch.in_ * SIZES[launch.x_type]
        written = launch.count * (shrunk if launch.pool else pixels) * launch.out * SIZES[launch.type]
        return (launch.x, read), (launch.y, written)
    if isinstance(launch, cuda.PartPool):
        size, pixels = SIZES[launch.type] * launch.count * launch.channels, launch.height * launch.width
        return (launch.x, size * pixels), (launch.y, size * launch.parts)
    assert isinstance(launch, cuda.MicroMotion)
    head = launch.weights
    features = batch.total * head.parts * head.channels * SIZES[head.type]
    return (launch.features, features), (launch.y, launch.batch * head.parts * head.dim * 4)


def check(config: GaitPartConfig, precision: str, batch: Batch) -> list[ctypes.Structure]:
    payload = pack(config, random_weights(config, 0), precision)
    network = make_network(config, payload, dict.fromkeys(payload.tensors, 5 << 40))
    made = network.launches(batch, PLACES)
    end = PLACES.scratch + network.scratch(batch)
    written = np.zeros(network.scratch(batch), bool)
    frames = 0
    for launch in made:
        (x, read), (y, size) = spans(launch, batch)
        if x >= PLACES.scratch:
            assert x + read <= end
            assert written[x - PLACES.scratch :][:read].all(), "it reads what nobody wrote"
            assert x + read <= y or y + size <= x, "it writes over what it reads"
        else:
            assert x == PLACES.silhouettes + frames * 64 * 44
            frames += read // (64 * 44)
        if y < PLACES.embeddings:
            assert y >= PLACES.scratch
            assert y + size <= end
            assert y % 16 == 0
            written[y - PLACES.scratch :][:size] = True
    assert frames == batch.total
    head = made[-1]
    assert isinstance(head, cuda.MicroMotion)
    assert spans(head, batch)[1][0] == PLACES.embeddings
    assert (head.batch, head.frames) == (batch.sequences, batch.frames)
    assert (head.offsets is None) == (batch.frames > 0)
    return made


@given(configs(), st.sampled_from(["fp32", "fp16"]), BATCHES, st.sampled_from([1 << 16, 5 << 20, 48 << 20]))
def test_every_network(config: GaitPartConfig, precision: str, batch: Batch, room: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_forms, "_ACTIVATIONS", room)
        check(config, precision, batch)


def test_the_papers_network() -> None:
    config = GaitPartConfig()
    assert len(check(config, "fp16", Batch(2, 30, 60))) == 2
    assert len(check(config, "fp32", Batch(2, 30, 60))) == 8
    # However long the walks are, their activations take no more than this.
    payload = pack(config, random_weights(config, 0), "fp32")
    network = make_network(config, payload, dict.fromkeys(payload.tensors, 0))
    long = Batch(1, 100_000, 100_000)
    features = 100_000 * 16 * 128 * 4
    assert network.scratch(long) - features <= cuda_forms._ACTIVATIONS + 256
    assert len(network.launches(long, PLACES)) > 1000
