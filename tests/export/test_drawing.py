from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import configs, random_weights

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError
from gaitedge.export.blocks import examine
from gaitedge.export.drawing import WIDTH, draw
from gaitedge.export.graph import LETTER, Plan, build_frame_graph, build_graph
from gaitedge.export.plan import layer_names

PAPER = GaitPartConfig()
PLANS = [
    Plan(fconv, micro_motion)
    for fconv in ("fold", "split", "plugin")
    for micro_motion in ("grouped", "per_part", "plugin")
]
TINY = GaitPartConfig(channels=(8, 16), strips=(1, 1, 3, 4), parts=4, embedding_dim=8)


def picture(config: GaitPartConfig, plan: Plan | None = None, frames: int = 30) -> list[str]:
    return draw(build_graph(config, random_weights(config, 0), plan), frames=frames)


def said(lines: list[str]) -> set[str]:
    """The cells of a picture: what stands between its borders, runs of two blanks apart."""
    cells = (cell for line in lines for piece in line.split("│") for cell in piece.split("  "))
    return {cell.strip() for cell in cells if cell.strip()}


def test_a_small_network_looks_like_this() -> None:
    assert "\n".join(picture(TINY, Plan("fold", "grouped"), frames=5)) == EXPECTED.strip("\n")


EXPECTED = """
                               silhouettes  uint8 [1, 5, 64, 44]
                                                │
┌─ Input ───────────────────────────────────────┴──────────────────────────────────────────────┐
│ to fp32                                                                  fp32 [1, 5, 64, 44] │
└───────────────────────────────────────────────┬──────────────────────────────────────────────┘
┌─ FConv1 · p = 1 ──────────────────────────────┴──────────────── 2.82 M MAC · 200 parameters ─┐
│ Conv 5×5, 1 → 8 · LeakyReLU                                              fp32 [5, 8, 64, 44] │
└───────────────────────────────────────────────┬──────────────────────────────────────────────┘
┌─ FConv2 · p = 1 ──────────────────────────────┴──────────────── 8.11 M MAC · 576 parameters ─┐
│ Conv 3×3, 8 → 8 · LeakyReLU                                              fp32 [5, 8, 64, 44] │
│ MaxPool 2×2                                                              fp32 [5, 8, 32, 22] │
└───────────────────────────────────────────────┬──────────────────────────────────────────────┘
┌─ FConv3 · p = 3 ──────────────────────────────┴────────────── 4.06 M MAC · 1,152 parameters ─┐
│ cut into 3 of 10–11 rows                                          3 × fp32 [5, 8, 10–11, 22] │
│ Conv 3×3, 8 → 16                                                 3 × fp32 [5, 16, 10–11, 22] │
│ join 3 · LeakyReLU                                                      fp32 [5, 16, 32, 22] │
└───────────────────────────────────────────────┬──────────────────────────────────────────────┘
┌─ FConv4 · p = 4 ──────────────────────────────┴────────────── 8.11 M MAC · 2,304 parameters ─┐
│ fold 1 → 4 strips in the batch                                          fp32 [20, 16, 8, 22] │
│ Conv 3×3, 16 → 16 · LeakyReLU                                           fp32 [20, 16, 8, 22] │
└───────────────────────────────────────────────┬──────────────────────────────────────────────┘
┌─ HP ──────────────────────────────────────────┴──────────────────────────────────────────────┐
│ average + maximum of 8×22                                                fp32 [20, 16, 1, 1] │
│ frames from the batch to the end                                          fp32 [1, 64, 1, 5] │
└───────────────────────────────────────────────┬──────────────────────────────────────────────┘
                       ┌────────────────────────┴───────────────────────┐
┌─ MTB1 ───────────────┴──────────────────────┐  ┌─ MTB2 ───────────────┴──────────────────────┐
│ average + maximum of 1×3                    │  │ average + maximum of 1×5                    │
│                          fp32 [1, 64, 1, 5] │  │                          fp32 [1, 64, 1, 5] │
│ Conv 1×3, 64 → 16, 4 groups · LeakyReLU     │  │ Conv 1×3, 64 → 16, 4 groups · LeakyReLU     │
│                          fp32 [1, 16, 1, 5] │  │                          fp32 [1, 16, 1, 5] │
│ Conv 1×1, 16 → 64, 4 groups · sigmoid ·     │  │ Conv 1×3, 16 → 64, 4 groups · sigmoid ·     │
│ multiply                 fp32 [1, 64, 1, 5] │  │ multiply                 fp32 [1, 64, 1, 5] │
│               5.12 k MAC · 1,024 parameters │  │               7.68 k MAC · 1,536 parameters │
└──────────────────────┬──────────────────────┘  └──────────────────────┬──────────────────────┘
                       └────────────────────────┬───────────────────────┘
┌─ MTB1 + MTB2 ─────────────────────────────────┴──────────────────────────────────────────────┐
│ add                                                                       fp32 [1, 64, 1, 5] │
└───────────────────────────────────────────────┬──────────────────────────────────────────────┘
┌─ TP ──────────────────────────────────────────┴──────────────────────────────────────────────┐
│ maximum over 5 frames                                                           fp32 [1, 64] │
│ transpose [1, 0, 2]                                                          fp32 [4, 1, 16] │
└───────────────────────────────────────────────┬──────────────────────────────────────────────┘
┌─ FC ──────────────────────────────────────────┴─────────────────── 512 MAC · 512 parameters ─┐
│ MatMul 16 → 8                                                                 fp32 [4, 1, 8] │
│ transpose [1, 0, 2]                                                           fp32 [1, 4, 8] │
└───────────────────────────────────────────────┬──────────────────────────────────────────────┘
                                                │
                                   embeddings  fp32 [1, 4, 8]
"""


def test_the_paper_s_network_folded() -> None:
    """Two folds and no unfolding; the parts' own convolutions are groups; MTB1 and MTB2 side by side."""
    lines = picture(PAPER)
    folds = [cell for cell in sorted(said(lines)) if "fold" in cell]
    assert folds == ["fold 1 → 4 strips in the batch", "fold 4 → 8 strips in the batch"]
    assert {"Conv 1×1, 512 → 2048, 16 groups · sigmoid ·", "fp32 [240, 128, 2, 11]"} <= said(lines)
    titles = [line for line in lines if line.startswith("┌─ ")]
    assert "─ FConv5 · p = 8 ─" in titles[5]
    assert "─ 389 M MAC · 73,728 parameters ─" in titles[5]
    assert titles[8].count("┌") == 2
    assert "─ MTB1 ─" in titles[8]
    assert "─ MTB2 ─" in titles[8]
    assert lines[-1].strip() == "embeddings  fp32 [1, 16, 256]"


def test_the_letter_shows_its_strips_and_parts() -> None:
    cells = said(picture(PAPER, LETTER))
    assert {"cut into 8 of 2 rows", "8 × fp32 [30, 128, 2, 11]", "join 8 · LeakyReLU"} <= cells
    assert {"cut into 16 of 128 channels", "16 × fp32 [1, 128, 1, 30]", "join 16"} <= cells
    assert not [cell for cell in cells if "fold" in cell or "groups" in cell]


def test_plugins_are_named_with_what_they_compute() -> None:
    text = " ".join(" ".join(picture(PAPER, Plan("plugin", "plugin", "fp16"))).replace("│", " ").split())
    assert "GaitEdgeFocalConv plugin: Conv 3×3, 64 → 64, LeakyReLU, MaxPool 2×2 fp16 [30, 64, 16, 11]" in text
    assert "GaitEdgePartPool plugin: average + maximum of 1×11 fp16 [30, 16, 128]" in text
    assert "─ TFA + FC ─" in text
    end = "16 groups, sigmoid, multiply, add, maximum over 30 frames, MatMul 128 → 256 fp32 [1, 16, 256]"
    assert end in text


def test_the_frame_network_is_one_box() -> None:
    """Of one FConv the title tells the strips; here the convolutions do."""
    text = " ".join(" ".join(picture(PAPER, Plan("network", "plugin", "fp16"))).replace("│", " ").split())
    assert "─ FPFE + HP ─" in text
    assert "3.18 G MAC · 286,496 parameters" in text
    assert (
        "GaitEdgeFrameNetwork plugin: divide, Conv 5×5, 1 → 32, fp16 weights, LeakyReLU, Conv 3×3, 32" in text
    )
    assert "MaxPool 2×2, Conv 3×3, 32 → 64, 4 strips, LeakyReLU, Conv 3×3, 64 → 64, 4 strips" in text
    assert "8 strips, LeakyReLU, average + maximum of 1×11 fp16 [1, 30, 16, 128]" in text


def test_int8_is_shown_where_it_is() -> None:
    plan = Plan(precision="fp16", scales=tuple((name, 0.5) for name in layer_names(PAPER)[1:3]))
    cells = said(picture(PAPER, plan))
    assert "Conv 5×5, 1 → 32 · LeakyReLU" in cells
    assert "Conv 3×3, 32 → 32, int8 weights · LeakyReLU" in cells
    assert [cell for cell in cells if "through int8" in cell]


def test_ablations() -> None:
    """Tab. 6: one template, no attention, the mean; and strips and parts that cannot be equal."""
    config = GaitPartConfig(
        channels=(4, 8),
        strips=(3, 1, 4, 4),
        parts=5,
        templates=(2,),
        attention=False,
        temporal_pooling="mean",
    )
    lines = picture(config)
    assert {"cut into 3 of 21–22 rows", "average + maximum of 1×5", "mean over 30 frames"} <= said(lines)
    assert [line for line in lines if "MTB" in line] == [
        line for line in lines if line.startswith("┌─ MTB2 ─")
    ]
    assert not [cell for cell in said(lines) if "sigmoid" in cell or "add" in cell]


@settings(max_examples=40)
@given(configs(), st.sampled_from(PLANS), st.integers(1, 3), st.integers(1, 40))
def test_every_picture_is_whole(config: GaitPartConfig, plan: Plan, batch: int, frames: int) -> None:
    """Within its width, every box closed, a box for every block, and nothing that runs past its box."""
    graph = build_graph(config, random_weights(config, 0), plan)
    lines = draw(graph, batch, frames)
    assert max(map(len, lines)) <= WIDTH
    boxes = [line for line in lines if line[0] in "┌│└"]
    assert {len(line) for line in boxes} == {WIDTH}
    for line in boxes:
        assert line[-1] == {"┌": "┐", "│": "│", "└": "┘"}[line[0]]
        assert (line.count("┌"), line.count("└")) == (line.count("┐"), line.count("┘"))
    assert sum(line.count("┌─ ") for line in lines) == len(examine(graph, batch, frames).blocks)
    assert lines[0].strip() == f"silhouettes  uint8 [{batch}, {frames}, 64, 44]"
    assert not [line for line in lines if "reads " in line]


def test_the_frame_graph_ends_with_part_features() -> None:
    lines = draw(build_frame_graph(PAPER, random_weights(PAPER, 0)), frames=7)
    assert lines[-1].strip() == "part_features  fp32 [1, 7, 16, 128]"
    assert not [line for line in lines if "TP" in line]


def test_the_graph_is_drawn_and_not_what_it_should_be() -> None:
    """Another operator, and an edge that leaves out a block, are in the picture."""
    graph = build_graph(TINY, random_weights(TINY, 0), Plan("split"))
    by_name = {node.name: node for node in graph.graph.node}
    by_name["fconv2.relu"].op_type = "Relu"
    del by_name["fconv2.relu"].attribute[:]
    by_name["tp"].input[0] = "mtb2"
    lines = draw(onnx.ModelProto.FromString(graph.SerializeToString()))
    assert {"Conv 3×3, 8 → 8", "Relu", "reads MTB2"} <= said(lines)


def test_three_blocks_side_by_side_are_drawn_below_each_other() -> None:
    graph = build_graph(TINY, random_weights(TINY, 0), Plan("split"))
    next(node for node in graph.graph.node if node.name == "tp").input[0] = "hp.rows_by_channel"
    lines = draw(graph)
    assert {len(line) for line in lines if line[0] in "┌│└"} == {WIDTH}
    assert "reads HP" in said(lines)
    tops = [line for line in lines if line.startswith(("┌─ MTB1 ─", "┌─ MTB2 ─", "┌─ TP ─"))]
    assert [line.count("┌") for line in tops] == [1, 1, 1]


def test_one_frame_is_moved_like_any_number() -> None:
    cells = said(picture(PAPER, frames=1))
    assert {"frames from the batch to the end", "maximum over 1 frame"} <= cells
    assert not [cell for cell in cells if "unfold" in cell]


def test_no_frames_are_refused() -> None:
    with pytest.raises(InputError, match="1 frame or more, not 1 and 0"):
        picture(TINY, frames=0)
