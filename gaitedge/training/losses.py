"""The separate BA+ triplet loss (Sec. 3.4, after Hermans et al., "In Defense of the Triplet Loss")."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["TripletLoss", "separate_triplet_loss"]


class TripletLoss(NamedTuple):
    """A loss to minimise and how many triplets still contribute to it."""

    loss: Tensor
    nonzero: Tensor
    """Share of the triplets whose loss is not zero, 0 to 1."""


def separate_triplet_loss(embeddings: Tensor, labels: Tensor, margin: float = 0.2) -> TripletLoss:
    """Batch-all triplet loss of each part by itself, averaged over the parts.

    Of every anchor, every other sequence of its subject and every sequence of another subject:
    max(0, margin + d(anchor, positive) - d(anchor, negative)) with Euclidean distances, averaged
    over the triplets of a part whose loss is not zero (the + of BA+).

    embeddings [b, n, e], labels [b]. Computed in float32 under autocast too: a margin of 0.2 on
    squared distances is beyond bfloat16. A batch without triplets gives a loss of zero.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        x = embeddings.float().transpose(0, 1)
        squares = x.square().sum(dim=2)
        squared = squares[:, :, None] + squares[:, None, :] - 2 * x @ x.transpose(1, 2)
        # The derivative of a root has no bound at zero: equal embeddings get a gradient of zero.
        equal = squared <= 1e-12  # NaN is not: it must reach the loss
        distance = torch.where(equal, 1.0, squared).sqrt() * ~equal
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        anchors, positives = positive.nonzero(as_tuple=True)
        # Pairs x negatives, not anchors x positives x negatives: 32 subjects x 16 fit in memory.
        negatives = ~same[anchors]
        margins = margin + distance[:, anchors, positives].unsqueeze(2) - distance[:, anchors]
        hinge = margins.clamp(min=0) * negatives
        counts = (hinge > 0).sum(dim=(1, 2))
        loss = (hinge.sum(dim=(1, 2)) / counts.clamp(min=1)).mean()
        total = negatives.sum().clamp(min=1) * len(counts)
        return TripletLoss(loss, counts.sum() / total)
