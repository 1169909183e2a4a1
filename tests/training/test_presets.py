"""The recipes as the paper states them (Sec. 3.4, Sec. 4.1), and what a recipe refuses."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError
from gaitedge.training.presets import PRESETS, Recipe


def test_casia_b_is_the_paper_s() -> None:
    """Sec. 4.1: batches of (8, 16), 120K iterations, Adam at 1e-4, a margin of 0.2."""
    preset = PRESETS["casia-b"]
    recipe = preset.recipe
    assert (recipe.subjects, recipe.samples, recipe.frames, recipe.order) == (8, 16, 30, "sorted")
    assert (recipe.iterations, recipe.margin, recipe.clip) == (120_000, 0.2, None)
    assert [recipe.rate(iteration) for iteration in (1, 60_000, 120_000)] == [1e-4] * 3
    assert preset.config == GaitPartConfig()
    assert preset.split == "casia-b"


@pytest.mark.parametrize(("name", "parts"), [("oumvlp", 3), ("oumvlp-opengait", 8)])
def test_oumvlp_has_four_blocks_and_a_drop(name: str, parts: int) -> None:
    """Sec. 4.1: (32, 16), 250K iterations, 1e-5 from 150K on; a block of 256 channels more."""
    preset = PRESETS[name]
    recipe = preset.recipe
    assert (recipe.subjects, recipe.samples, recipe.iterations) == (32, 16, 250_000)
    assert recipe.rate(150_000) == 1e-4
    assert recipe.rate(150_001) == pytest.approx(1e-5)
    assert preset.config.channels == (32, 64, 128, 256)
    assert preset.config.strips == (1, 1, 1, 1, parts, parts, parts, parts)
    assert preset.split == "oumvlp"


def test_the_command_offers_every_preset() -> None:
    from gaitedge.cli.training import Preset

    assert set(get_args(Preset)) == set(PRESETS)


def test_a_cosine_rises_to_the_rate_and_falls_to_nearly_nothing() -> None:
    recipe = Recipe(iterations=1000, learning_rate=1e-3, schedule="cosine")
    rates = [recipe.rate(iteration) for iteration in range(1, 1001)]
    top = rates.index(max(rates))
    assert (top, rates[top]) == (29, 1e-3)  # a warm-up of 3 %
    assert rates[:30] == sorted(rates[:30])
    assert rates[29:] == sorted(rates[29:], reverse=True)
    assert 0 < rates[-1] < 1e-8


def test_a_recipe_changes_what_it_is_told_to() -> None:
    recipe = Recipe(seed=3).changed(iterations=5, order=None, clip=None)
    assert recipe == Recipe(iterations=5, seed=3)
    assert Recipe().changed("2, 3,4", seed=1) == Recipe(subjects=2, samples=3, frames=4, seed=1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"iterations": 0}, "iterations must be 1 or more, not 0"),
        ({"samples": 1}, "samples must be 2 or more, not 1"),
        ({"seed": -1}, "seed must be 0 or more, not -1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0 and finite, not 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0"),
        ({"margin": float("inf")}, "margin must be above 0 and finite, not inf"),
        ({"clip": 0.0}, "clip must be above 0 and finite, not 0"),
        ({"order": "backwards"}, "order must be sorted or shuffled, not 'backwards'"),
        ({"schedule": "steps"}, "schedule must be constant or cosine"),
        ({"precision": "int8"}, "precision must be auto or fp32 or bf16 or fp16"),
    ],
)
def test_an_impossible_recipe_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"impossible training: {message}"):
        dataclasses.replace(Recipe(), **values)


@pytest.mark.parametrize("text", ["8,16", "8,16,x", "8,16,30,1", "-8,16,30", ""])
def test_a_batch_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="a batch is subjects,samples,frames, as in 8,16,30"):
        Recipe().changed(text)
