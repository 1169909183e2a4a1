from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gaitedge.training.losses import separate_triplet_loss


def plain(embeddings: np.ndarray, labels: list[int], margin: float) -> tuple[float, float]:
    """The definition, one triplet after the other."""
    losses, nonzero, triplets = [], 0, 0
    for part in range(embeddings.shape[1]):
        x, hinges = embeddings[:, part], []
        for a in range(len(labels)):
            for p in range(len(labels)):
                for n in range(len(labels)):
                    if a != p and labels[a] == labels[p] and labels[a] != labels[n]:
                        d = np.linalg.norm(x[a] - x[p]) - np.linalg.norm(x[a] - x[n])
                        hinges.append(max(0.0, margin + d))
        positive = [hinge for hinge in hinges if hinge > 0]
        losses.append(sum(positive) / max(1, len(positive)))
        nonzero, triplets = nonzero + len(positive), triplets + len(hinges)
    return float(np.mean(losses)), nonzero / max(1, triplets)


@given(
    st.lists(st.integers(0, 2), min_size=2, max_size=7),
    st.integers(1, 3),
    st.floats(0.05, 1.0),
    st.integers(0, 2**16),
)
def test_loss_is_the_plain_triple_loop(labels: list[int], parts: int, margin: float, seed: int) -> None:
    embeddings = np.random.default_rng(seed).standard_normal((len(labels), parts, 6)) * 0.3
    found = separate_triplet_loss(torch.from_numpy(embeddings), torch.tensor(labels), margin)
    loss, nonzero = plain(embeddings, labels, margin)
    assert found.loss.item() == pytest.approx(loss, rel=1e-4, abs=1e-6)
    assert found.nonzero.item() == pytest.approx(nonzero, abs=0.02)


def test_equal_embeddings_have_a_finite_gradient() -> None:
    embeddings = torch.zeros(4, 2, 3, requires_grad=True)
    separate_triplet_loss(embeddings, torch.tensor([0, 0, 1, 1])).loss.backward()
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()


def test_distances_are_float32_under_autocast() -> None:
    """In bfloat16 these two subjects, 0.01 apart at distance 10, would be one."""
    embeddings = torch.tensor([[[10.0]], [[10.0]], [[10.01]], [[10.01]]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = separate_triplet_loss(embeddings, torch.tensor([0, 0, 1, 1])).loss
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.19, abs=1e-3)


def test_a_batch_of_one_subject_has_no_loss() -> None:
    found = separate_triplet_loss(torch.randn(3, 2, 4), torch.zeros(3, dtype=torch.long))
    assert (found.loss.item(), found.nonzero.item()) == (0, 0)


def test_what_is_not_finite_reaches_the_loss() -> None:
    """A part that has become NaN must stop a training, not vanish from the mean."""
    embeddings = torch.randn(4, 3, 5)
    embeddings[1, 2, 0] = torch.nan
    found = separate_triplet_loss(embeddings, torch.tensor([0, 0, 1, 1]))
    assert torch.isnan(found.loss)


def test_the_largest_batch_of_the_paper_fits_in_memory() -> None:
    """32 subjects x 16 samples and 16 parts (Sec. 4.1): every triplet at once would take 8.6 GB."""
    code = """
    import resource, torch
    from gaitedge.training.losses import separate_triplet_loss
    embeddings = torch.randn(512, 16, 8, requires_grad=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loss = separate_triplet_loss(embeddings, torch.arange(32).repeat_interleave(16)).loss
    torch.autograd.backward(loss)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 2 << 20  # kilobytes
