from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import configs, random_silhouettes, random_weights

from gaitedge.config import GaitPartConfig, strip_heights
from gaitedge.errors import InputError, SilhouetteError, WeightsError
from gaitedge.model import GaitPart, fconv_folded, fconv_letter, horizontal_pooling

PAPER = GaitPartConfig()


def test_the_paper_s_network_has_1_47_million_parameters() -> None:
    count = sum(parameter.numel() for parameter in GaitPart().parameters())
    assert count == 1_466_144
    assert round(count / 1e6, 2) == 1.47  # footnote 3


def test_weights_bear_the_names_and_shapes_that_the_configuration_gives() -> None:
    state = GaitPart().state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == PAPER.shapes()
    assert PAPER.shapes()["frame.0"] == (32, 1, 5, 5)  # Tab. 1
    assert PAPER.shapes()["mtb1.excite"] == (16, 128, 32, 1)  # Tab. 2
    assert PAPER.shapes()["mtb2.excite"] == (16, 128, 32, 3)


def test_the_network_for_ou_mvlp_has_four_blocks_and_two_pools() -> None:
    config = GaitPartConfig(channels=(32, 64, 128, 256), strips=(1, 1, 1, 1, 3, 3, 3, 3))
    assert [config.pooled_after(layer) for layer in range(8)] == [False, True, False, True] + [False] * 4
    assert [config.height(layer) for layer in range(8)] == [64, 64, 32, 32, 16, 16, 16, 16]
    model, silhouettes = GaitPart(config).eval(), torch.from_numpy(random_silhouettes(1, 5, 0))
    with torch.inference_mode():
        assert model(silhouettes).shape == (1, 16, 256)
        torch.testing.assert_close(model(silhouettes), model(silhouettes, letter=True))


@given(
    configs(),
    st.integers(1, 2),
    st.integers(1, 60),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([torch.uint8, torch.float32]),
    st.integers(0, 2**16),
)
def test_the_fused_form_agrees_with_the_letter(
    config: GaitPartConfig, batch: int, frames: int, dtype: torch.dtype, read_as: torch.dtype, seed: int
) -> None:
    model = GaitPart(config).load(random_weights(config, seed)).to(dtype)
    silhouettes = torch.from_numpy(random_silhouettes(batch, frames, seed)).to(read_as)
    with torch.inference_mode():
        letter, fused = model(silhouettes, letter=True), model(silhouettes)
    assert letter.shape == fused.shape == (batch, config.parts, config.embedding_dim)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert (letter - fused).abs().max() <= tolerance * letter.abs().max()


@given(configs(), st.integers(1, 9), st.integers(0, 2**16))
def test_both_forms_have_the_same_gradients(config: GaitPartConfig, frames: int, seed: int) -> None:
    model = GaitPart(config).load(random_weights(config, seed)).double()
    silhouettes = torch.from_numpy(random_silhouettes(1, frames, seed))
    gradients = [
        torch.autograd.grad(model(silhouettes, letter=letter).square().sum(), list(model.parameters()))
        for letter in (True, False)
    ]
    for one, other in zip(*gradients, strict=True):
        assert (one - other).abs().max() <= 1e-9 * max(1.0, float(one.abs().max()))


@pytest.mark.parametrize(("rows", "strips"), [(64, 1), (64, 3), (32, 4), (16, 8), (16, 16), (16, 5)])
def test_a_strip_never_sees_its_neighbours(rows: int, strips: int) -> None:
    """Sec. 3.2: what happens in one strip does not reach another."""
    rng = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 3, rows, 11, generator=rng), torch.randn(4, 3, 3, 3, generator=rng)
    heights = strip_heights(rows, strips)
    first = heights[0]
    changed = x.clone()
    changed[:, :, first:] += 1
    for fconv in (fconv_letter, fconv_folded):
        before, after = fconv(x, weight, strips), fconv(changed, weight, strips)
        torch.testing.assert_close(before[:, :, :first], after[:, :, :first])
        assert strips == 1 or not torch.allclose(before[:, :, first:], after[:, :, first:])


def test_fconv_of_one_strip_is_a_regular_convolution() -> None:
    x, weight = torch.randn(2, 3, 16, 11), torch.randn(4, 3, 3, 3)
    regular = torch.nn.functional.leaky_relu(torch.nn.functional.conv2d(x, weight, padding=1), 0.01)
    torch.testing.assert_close(fconv_letter(x, weight, 1), regular)
    torch.testing.assert_close(fconv_folded(x, weight, 1), regular)


def test_uneven_strips_differ_by_one_row_at_most() -> None:
    assert strip_heights(16, 3) == [6, 5, 5]
    assert all(sum(strip_heights(64, p)) == 64 for p in range(1, 65))


def test_horizontal_pooling_is_average_plus_maximum() -> None:
    x = torch.arange(2 * 4 * 3, dtype=torch.float32).reshape(1, 2, 4, 3)
    expected = torch.tensor([[[2.5 + 5, 14.5 + 17], [8.5 + 11, 20.5 + 23]]])
    torch.testing.assert_close(horizontal_pooling(x, 2), expected)


def test_average_pools_count_their_padding() -> None:
    """Without attention a constant feature of one shows it: 2/3 at the ends, 1 between (plus max 1)."""
    model = GaitPart(GaitPartConfig(attention=False, templates=(1,), temporal_pooling="mean"))
    features = torch.ones(1, 4, 16, 128)
    motion = model.builders[0](features.flatten(2).transpose(1, 2))
    torch.testing.assert_close(motion[0, 0], torch.tensor([5 / 3, 2, 2, 5 / 3]))


def test_a_longer_walk_cannot_lower_the_pooled_maximum() -> None:
    """Eq. 8: with max pooling, frames after a whole period add nothing."""
    model = GaitPart().eval()
    period = torch.from_numpy(random_silhouettes(1, 12, 3))
    with torch.inference_mode():
        twice, thrice = model(period.repeat(1, 3, 1, 1)), model(period.repeat(1, 4, 1, 1))
    torch.testing.assert_close(twice, thrice)


def test_weights_travel_through_numpy() -> None:
    weights = random_weights(PAPER, 1)
    model = GaitPart().load(weights)
    assert all(np.array_equal(model.weights()[name], weights[name]) for name in PAPER.shapes())
    with pytest.raises(WeightsError, match="missing fc"):
        model.load({name: array for name, array in weights.items() if name != "fc"})
    with pytest.raises(WeightsError, match="NaN"):
        model.load(weights | {"fc": np.full_like(weights["fc"], np.nan)})


@pytest.mark.parametrize("shape", [(30, 64, 44), (1, 30, 64, 64), (1, 0, 64, 44), (0, 30, 64, 44)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SilhouetteError, match="GaitPart takes"):
        GaitPart()(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strips": (1, 1, 4, 4)}, "6 FConvs need 6 strip counts"),
        ({"strips": (1, 1, 4, 4, 8, 17)}, "FConv6 has 16 rows"),
        ({"parts": 17}, "16 rows cannot be pooled into 17 parts"),
        ({"channels": ()}, "at least one block"),
        ({"squeeze": 3}, "squeeze 3 does not divide 128"),
        ({"templates": (2, 1)}, "templates must be"),
        ({"temporal_pooling": "median"}, "'max' or 'mean'"),
        ({"embedding_dim": 0}, "embedding_dim must be 1 or more"),
    ],
)
def test_impossible_networks_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GaitPartConfig(**options)  # type: ignore[arg-type]


@given(configs())
def test_a_configuration_survives_json(config: GaitPartConfig) -> None:
    assert GaitPartConfig.from_json(config.to_json()) == config
