from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import configs, random_silhouettes, random_weights

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError, WeightsError
from gaitedge.export.graph import LETTER, Plan, build_graph
from gaitedge.model import GaitPart

PLANS = [Plan(f, m) for f in ("fold", "split") for m in ("grouped", "per_part")]
PAPER = GaitPartConfig()


def run(model: onnx.ModelProto, silhouettes: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["embeddings"], {"silhouettes": silhouettes})[0]


def reference(config: GaitPartConfig, weights: dict, silhouettes: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return GaitPart(config).load(weights)(torch.from_numpy(silhouettes), letter=True).numpy()


@settings(max_examples=50)
@given(configs(), st.sampled_from(PLANS), st.integers(1, 3), st.integers(1, 120), st.integers(0, 2**16))
def test_every_plan_computes_the_paper_s_letter(
    config: GaitPartConfig, plan: Plan, batch: int, frames: int, seed: int
) -> None:
    weights, silhouettes = random_weights(config, seed), random_silhouettes(batch, frames, seed)
    expected = reference(config, weights, silhouettes)
    found = run(build_graph(config, weights, plan), silhouettes)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 30, 120])
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_the_paper_s_network_at_every_length(plan: Plan, frames: int) -> None:
    weights, silhouettes = random_weights(PAPER, frames), random_silhouettes(1, frames, frames)
    expected = reference(PAPER, weights, silhouettes)
    found = run(build_graph(PAPER, weights, plan), silhouettes)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@settings(max_examples=40)
@given(configs(), st.sampled_from(PLANS))
def test_checker_and_shape_inference_pass(config: GaitPartConfig, plan: Plan) -> None:
    model = build_graph(config, random_weights(config, 0), plan)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    output = inferred.graph.output[0].type.tensor_type.shape.dim
    assert output[0].dim_param == "batch"
    assert [d.dim_value for d in output[1:]] == [config.parts, config.embedding_dim]
    assert model.graph.input[0].type.tensor_type.shape.dim[1].dim_param == "frames"


def test_the_folded_graph_is_small_and_the_letter_is_not() -> None:
    weights = random_weights(PAPER, 0)
    folded = [node.op_type for node in build_graph(PAPER, weights).graph.node]
    letter = [node.op_type for node in build_graph(PAPER, weights, LETTER).graph.node]
    assert len(folded) <= 60
    assert folded.count("Conv") == 6 + 4
    assert len(letter) > 300
    assert letter.count("Conv") == 1 + 1 + 4 + 4 + 8 + 8 + 64  # strips, and four Conv1d a part


def test_strips_stay_folded_while_their_number_does() -> None:
    """One transposition into 4 strips, one from 4 to 8, none inside a block; two more in HP."""
    graph = build_graph(PAPER, random_weights(PAPER, 0)).graph
    moves = [node.name for node in graph.node if node.op_type == "Transpose"]
    assert moves == ["fconv3.fold.move", "fconv5.fold.move", "hp.rows", "tp.by_part", "fc"]


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"mtb1\.squeeze"):
        build_graph(GaitPartConfig(squeeze=2), random_weights(PAPER, 0))


@pytest.mark.parametrize("options", [{"fconv": "naive"}, {"micro_motion": "fused"}])
def test_unknown_plans_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InputError, match="must be"):
        Plan(**options)  # type: ignore[arg-type]


def test_the_same_weights_give_the_same_bytes() -> None:
    weights = random_weights(PAPER, 0)
    first, second = (build_graph(PAPER, weights).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_the_writer_needs_no_pytorch(tmp_path: object) -> None:
    """Runs with every runtime blocked: a Jetson or a laptop without them can export."""
    code = """
        import sys
        for name in ("torch", "openvino", "onnxruntime", "tensorrt"):
            sys.modules[name] = None  # importing it now fails
        import numpy as np
        from gaitedge.config import GaitPartConfig
        from gaitedge.export.graph import build_graph
        config = GaitPartConfig()
        weights = {n: np.zeros(s, dtype=np.float32) for n, s in config.shapes().items()}
        print(len(build_graph(config, weights).graph.node))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) <= 60
