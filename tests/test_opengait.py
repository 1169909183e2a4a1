from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import random_silhouettes
from opengait_checkpoints import BLOCKS, CASIA_B, OUMVLP, SMALL, Network, checkpoint, save
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError, WeightsError
from gaitedge.model import GaitPart
from gaitedge.opengait import import_opengait, read_opengait
from gaitedge.weights import load_weights

SQUEEZE = "TFA.pooling_func.conv1d3x1.2.0.conv.weight"
FIRST, LAST = (f"Backbone.forward_block.feature.{position}.conv.weight" for position in (0, 12))


def stated(state: dict[str, Tensor], silhouettes: Tensor, strips: tuple[int, ...]) -> Tensor:
    """OpenGait's GaitPart on its own state dict, by strips and parts: [b, t, 64, 44] -> [b, n, e]."""
    batch, frames = silhouettes.shape[:2]
    x = (silhouettes.to(state[FIRST].dtype) / 255).reshape(batch * frames, 1, 64, 44)
    for block, count in enumerate(strips):
        for position in BLOCKS[block]:
            weight = state[f"Backbone.forward_block.feature.{position}.conv.weight"]
            pad = 2 if position == 0 else 1
            height = x.shape[2] // count
            joined = [F.conv2d(strip, weight, padding=pad) for strip in x.split(height, dim=2)]
            x = F.leaky_relu(torch.cat(joined, dim=2), 0.01)
        if block < 2:
            x = F.max_pool2d(x, 2)
    head = state["Head.fc_bin"]
    flat = x.reshape(batch, frames, x.shape[1], len(head), -1)
    pooled = flat.mean(dim=-1) + flat.max(dim=-1).values
    embeddings = []
    for part in range(len(head)):
        row = pooled[..., part].transpose(1, 2)
        motions = []
        for name, window, kernel in (("conv1d3x1", 3, 1), ("conv1d3x3", 5, 3)):
            first, second = (
                state[f"TFA.pooling_func.{name}.{part}.{position}.conv.weight"] for position in (0, 2)
            )
            hidden = F.leaky_relu(F.conv1d(row, first, padding=1), 0.01)
            attention = torch.sigmoid(F.conv1d(hidden, second, padding=kernel // 2))
            average = F.avg_pool1d(row, window, 1, window // 2, count_include_pad=True)
            motions.append((average + F.max_pool1d(row, window, 1, window // 2)) * attention)
        embeddings.append((motions[0] + motions[1]).max(dim=2).values @ head[part])
    return torch.stack(embeddings, dim=1)


@pytest.mark.parametrize(
    ("network", "strips"),
    [
        (CASIA_B, (1, 4, 8)),
        (OUMVLP, (1, 1, 8, 8)),
        (SMALL, (1, 4, 8)),
        (Network((4, 8, 8, 12), 3), (1, 1, 8, 8)),
    ],
)
def test_embeddings_are_opengaits(network: Network, strips: tuple[int, ...], tmp_path: Path) -> None:
    state = network.state_dict()
    config, weights, iteration = read_opengait(save(tmp_path / "gait.pt", checkpoint(state)))
    assert iteration == 120_000
    silhouettes = torch.from_numpy(random_silhouettes(1 if network in (CASIA_B, OUMVLP) else 2, 6, seed=1))
    with torch.inference_mode():
        found = GaitPart(config).load(weights).double()(silhouettes)
        double = {name: value.double() for name, value in state.items()}
        expected = stated(double, silhouettes, strips)
    assert found.shape == (len(silhouettes), network.parts, network.embedding)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
    # It would show if two parts were exchanged.
    assert (expected[:, 0] - expected[:, 1]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("network", "name", "tensors", "parameters"),
    [(CASIA_B, "CASIA-B", 71, 1_204_000), (OUMVLP, "OU-MVLP", 73, 4_841_248)],
)
def test_opengaits_configurations_are_recognised(
    network: Network, name: str, tensors: int, parameters: int, tmp_path: Path
) -> None:
    source = save(tmp_path / "gait.pt", checkpoint(network.state_dict(), 60_000))
    done = import_opengait(source, tmp_path / "gait.safetensors")
    assert (done.configuration, done.tensors, done.parameters) == (name, tensors, parameters)
    assert (done.iteration, done.strips_assumed) == (60_000, True)
    config, weights = load_weights(done.path)
    assert config == done.config
    assert sum(array.size for array in weights.values()) == parameters
    assert config.embedding_dim == network.embedding


def test_any_consistent_sizes_are_read_off_the_tensors(tmp_path: Path) -> None:
    source = save(tmp_path / "gait.pt", SMALL.state_dict())
    done = import_opengait(source, tmp_path / "gait.safetensors")
    assert done.config == GaitPartConfig(
        channels=(4, 6, 8), strips=(1, 1, 4, 4, 8, 8), parts=4, squeeze=4, embedding_dim=5
    )
    assert (done.configuration, done.iteration) == ("another", None)


def test_a_network_that_only_differs_in_its_strips_is_still_that_configuration(tmp_path: Path) -> None:
    source = save(tmp_path / "gait.pt", OUMVLP.state_dict())
    done = import_opengait(source, tmp_path / "gait.safetensors", [1, 1, 3, 3])
    assert (done.configuration, done.strips, done.strips_assumed) == ("OU-MVLP", (1, 1, 3, 3), False)
    assert load_weights(done.path)[0].strips == (1, 1, 1, 1, 3, 3, 3, 3)


@pytest.mark.parametrize(
    ("network", "strips", "words"),
    [
        (SMALL, [1, 4], "has 3 blocks and needs as many strip counts, not [1, 4]"),
        (SMALL, [], "has 3 blocks and needs as many strip counts, not []"),
        (SMALL, [1, 4, 17], "FConv5 has 16 rows and cannot be cut into 17 strips"),
        (SMALL, [1, 4, 0], "strips must be 1 or more, not 0"),
        (Network((4, 8), 5), None, "has 2 blocks, and its weights do not say into how many strips"),
    ],
)
def test_strips_that_cannot_be(
    network: Network, strips: list[int] | None, words: str, tmp_path: Path
) -> None:
    source = save(tmp_path / "gait.pt", network.state_dict())
    with pytest.raises(InputError, match=re.escape(words)):
        read_opengait(source, strips)


def test_two_blocks_with_strips(tmp_path: Path) -> None:
    state = Network((4, 8), 5).state_dict()
    config, weights, _ = read_opengait(save(tmp_path / "gait.pt", state), [2, 4])
    assert (config.channels, config.strips) == ((4, 8), (2, 2, 4, 4))
    assert (weights["frame.3"] == state["Backbone.forward_block.feature.7.conv.weight"].numpy()).all()


def distributed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (checkpoint, {}),
        (checkpoint, {"_use_new_zipfile_serialization": False}),
        (lambda state: state, {}),
        (distributed, {}),
        (lambda state: checkpoint(distributed(state)), {}),
        (lambda state: {name: torch.nn.Parameter(value) for name, value in state.items()}, {}),
        (lambda state: {name: value.double() for name, value in state.items()}, {}),
        (lambda state: dict(reversed(state.items())), {}),
        (lambda state: {name: torch.stack([value, value], -1)[..., 1] for name, value in state.items()}, {}),
    ],
)
def test_every_form_of_a_checkpoint_gives_the_same_weights(
    form: Callable[[dict[str, Tensor]], object], options: dict[str, Any], tmp_path: Path
) -> None:
    plain = read_opengait(save(tmp_path / "plain.pt", SMALL.state_dict()))
    found = read_opengait(save(tmp_path / "gait.pt", form(SMALL.state_dict()), **options))
    assert found[0] == plain[0]
    assert all((found[1][name] == array).all() for name, array in plain[1].items())
    assert all(array.dtype == np.float32 for array in found[1].values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {name: value.to(dtype) for name, value in SMALL.state_dict().items()}
    _, weights, _ = read_opengait(save(tmp_path / "gait.pt", state))
    assert weights["fc"].dtype == np.float32
    assert (weights["fc"] == state["Head.fc_bin"].float().numpy()).all()


def message(state: object, tmp_path: Path) -> str:
    """Of the refusal of a checkpoint, without the path."""
    source = save(tmp_path / "gait.pt", {"model": state})
    with pytest.raises(WeightsError) as caught:
        read_opengait(source)
    text = str(caught.value)
    assert text.startswith(str(source))
    assert "\n" not in text
    return text.removeprefix(str(source))


NETWORK = " is not OpenGait's GaitPart, here of channels 4, 6, 8 and 4 parts: "


def test_each_missing_tensor_alone_is_named(tmp_path: Path) -> None:
    for name, shape in SMALL.shapes().items():
        if name == "Head.fc_bin":
            shape = (4, 8, 8)  # noqa: PLW2901 (OpenGait's embeddings are as long as its features)
        state = {other: value for other, value in SMALL.state_dict().items() if other != name}
        assert message(state, tmp_path) == f"{NETWORK}{name} is missing, must be {list(shape)}"


def test_each_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    for name, shape in SMALL.shapes().items():
        for axis in range(len(shape)):
            if (name, axis) == ("Head.fc_bin", 2):
                continue  # any length is taken
            found = [length + (axis == position) for position, length in enumerate(shape)]
            state = {**SMALL.state_dict(), name: torch.zeros(found)}
            assert message(state, tmp_path) == f"{NETWORK}{name} is {found}, must be {list(shape)}"


def test_all_that_is_wrong_stands_in_one_line(tmp_path: Path) -> None:
    state: dict[str, Any] = SMALL.state_dict()
    del state[FIRST]
    for part in range(4):
        del state[f"TFA.pooling_func.conv1d3x3.{part}.2.conv.weight"]
    state[LAST] = state[LAST][:, :, 0]
    state["Head.fc_bin"][1, 2, 3] = torch.nan
    state[SQUEEZE] = state[SQUEEZE].int()
    state["TFA.pooling_func.conv1d3x1.3.2.conv.weight"] = [1.0]
    state["BNNecks.bn1d.weight"] = torch.zeros(3)
    state["epoch\x1b[31m"] = 3
    assert message(state, tmp_path).removeprefix(NETWORK).split("; ") == [
        f"{FIRST} is missing, must be [4, 1, 5, 5]",
        f"{LAST} is [8, 8, 3], must be [8, 8, 3, 3]",
        f"{SQUEEZE} is int32, must be float16, bfloat16, float32 or float64",
        "TFA.pooling_func.conv1d3x1.3.2.conv.weight is list, must be a tensor [8, 2, 1]",
        "TFA.pooling_func.conv1d3x3.{0..3}.2.conv.weight is missing, must be [8, 2, 3]",
        "Head.fc_bin holds NaN or infinite values",
        "BNNecks.bn1d.weight is unknown",
        r"'epoch\x1b[31m' is unknown",
    ]


def test_a_whole_block_is_missed(tmp_path: Path) -> None:
    for block in BLOCKS[:3]:
        gone = [f"Backbone.forward_block.feature.{position}.conv.weight" for position in block]
        state = {name: value for name, value in SMALL.state_dict().items() if name not in gone}
        wanted = [f"{name} is missing, must be {list(SMALL.shapes()[name])}" for name in gone]
        assert message(state, tmp_path) == NETWORK + "; ".join(wanted)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.full((4, 1, 5, 5), torch.inf), "holds NaN or infinite values"),
        (torch.full((4, 1, 5, 5), 1e300, dtype=torch.float64), "holds NaN or infinite values"),
        (torch.zeros(1).expand(4, 1, 5, 5), "repeats few values over many"),
        (torch.zeros(4, 1, 5, 5, device="meta"), "is a tensor without plain values"),
        (torch.zeros(4, 1, 5, 5).to_sparse(), "is a tensor without plain values"),
        (torch.zeros(4, 1, 5, 5, dtype=torch.complex64), "is complex64, must be"),
        (None, "is NoneType, must be a tensor [4, 1, 5, 5]"),
    ],
)
def test_values_that_are_no_weights(value: object, words: str, tmp_path: Path) -> None:
    assert message({**SMALL.state_dict(), FIRST: value}, tmp_path).startswith(f"{NETWORK}{FIRST} {words}")


def test_a_claim_of_terabytes_costs_nothing(tmp_path: Path) -> None:
    head = torch.zeros(4, 8, 1).expand(4, 8, 1 << 40)
    text = message({**SMALL.state_dict(), "Head.fc_bin": head}, tmp_path)
    assert text == f"{NETWORK}Head.fc_bin repeats few values over many: it is no trained tensor"


def test_impossible_sizes(tmp_path: Path) -> None:
    text = message(Network((4, 6, 8), 5, parts=15).state_dict(), tmp_path)
    assert text == ": its 15 parts do not divide 16 rows, as GaitPart's must"
    text = message(Network((4, 6, 8), 5, parts=31).state_dict(), tmp_path)
    assert text == ": impossible network: 16 rows cannot be pooled into 31 parts"
    text = message(Network((4, 6, 8), 5, squeezed=3).state_dict(), tmp_path)
    assert "conv1d3x1.{0..15}.0.conv.weight is [3, 8, 3], must be [4, 8, 3]" in text
    text = message(Network((4, 6, 8), 0).state_dict(), tmp_path)
    assert text == ": impossible network: embedding_dim must be 1 or more, not 0"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, ", under 'model', is no GaitPart of OpenGait's: it holds 0 values, no tensor at all"),
        ({"conv1.weight": torch.zeros(3), "fc": 1}, "it holds 2 values, named conv1.weight, fc"),
        (
            {f"layer.{n}": torch.zeros(1) for n in range(9)},
            "holds 9 values, named layer.0, layer.1, layer.2, …",
        ),
        ([torch.zeros(3)], ", under 'model', holds a list, must hold tensors by name"),
        (torch.zeros(3), "holds a Tensor, must hold tensors by name"),
        ({3: torch.zeros(3)}, "holds a dict, must hold tensors by name"),
        (
            {**SMALL.state_dict(), **distributed(SMALL.state_dict())},
            f"holds {FIRST} twice, with and without the prefix module.",
        ),
    ],
)
def test_what_is_no_gaitpart(state: object, words: str, tmp_path: Path) -> None:
    assert words in message(state, tmp_path)


def test_what_stood_there_goes_only_on_success(tmp_path: Path) -> None:
    source, out = save(tmp_path / "gait.pt", SMALL.state_dict()), tmp_path / "gait.safetensors"
    out.write_bytes(b"before")
    bad = save(tmp_path / "bad.pt", {**SMALL.state_dict(), "more": torch.zeros(1)})
    with pytest.raises(WeightsError, match="more is unknown"):
        import_opengait(bad, out)
    assert out.read_bytes() == b"before"
    first = import_opengait(source, out)
    again = import_opengait(source, out)
    assert first == again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pt", "gait.pt", "gait.safetensors"]


def test_the_checkpoint_itself_is_not_overwritten(tmp_path: Path) -> None:
    source = save(tmp_path / "gait.pt", SMALL.state_dict())
    before = source.read_bytes()
    with pytest.raises(WeightsError, match="is the checkpoint itself"):
        import_opengait(source, tmp_path / "." / "gait.pt")
    assert source.read_bytes() == before
