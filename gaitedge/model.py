"""GaitPart in PyTorch: the whole network, to the letter of the paper and fused.

Fan et al., "GaitPart: Temporal Part-based Model for Gait Recognition", CVPR 2020. Where the paper is
silent the authors' published settings decide: LeakyReLU of slope 0.01 after every FConv, no bias,
no normalisation, average pools that count their padding.

Two forms of one network with the same weights. The *letter* cuts every FConv's input into strips
and calls each strip's convolution and each part's micro-motion module by itself, as Fig. 3 and
Fig. 5 draw them. The *fused* form folds the strips into the batch and the parts into the channels
of grouped convolutions; training and export use it. They agree within rounding, which
tests/test_model.py asserts over random configurations.

Shapes: b sequences of t frames, n parts, C channels, e the embedding's length.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own spelling)

from gaitedge.config import HEIGHT, WIDTH, GaitPartConfig, strip_heights
from gaitedge.errors import SilhouetteError
from gaitedge.weights import check_weights

if TYPE_CHECKING:
    from gaitedge.weights import Weights

__all__ = ["GaitPart"]

SLOPE = 0.01  # of every LeakyReLU


# Focal convolution (Sec. 3.2) ---------------------------------------------------------------------


def fconv_letter(x: Tensor, weight: Tensor, strips: int) -> Tensor:
    """FConv as Fig. 3b draws it: cut, convolve each strip with its own zero padding, join.

    x [N, in, H, W], weight [out, in, k, k] → [N, out, H, W], activated.
    """
    pad = weight.shape[-1] // 2
    cut = torch.split(x, strip_heights(x.shape[2], strips), dim=2)
    return F.leaky_relu(torch.cat([F.conv2d(strip, weight, padding=pad) for strip in cut], dim=2), SLOPE)


def fconv_folded(x: Tensor, weight: Tensor, strips: int) -> Tensor:
    """FConv in one convolution: equal strips become a part of the batch.

    Strips of unequal height stay where they are, with rows of zeros between them that stand in for
    each strip's padding. Shapes as fconv_letter.
    """
    rows, pad = x.shape[2], weight.shape[-1] // 2
    if rows % strips == 0:
        folded = F.conv2d(_regroup(x, x.shape[0] * strips), weight, padding=pad)
        return _regroup(F.leaky_relu(folded, SLOPE), x.shape[0])
    heights = strip_heights(rows, strips)
    gutter = x.new_zeros(x.shape[0], x.shape[1], pad, x.shape[3])
    joined = [piece for strip in torch.split(x, heights, dim=2) for piece in (gutter, strip)][1:]
    x = F.leaky_relu(F.conv2d(torch.cat(joined, dim=2), weight, padding=pad), SLOPE)
    sizes = [size for height in heights for size in (pad, height)][1:]
    return torch.cat(torch.split(x, sizes, dim=2)[::2], dim=2)


def _regroup(x: Tensor, n: int) -> Tensor:
    """Fold rows into the batch, or unfold them again: [N, C, H, W] → [n, C, N·H/n, W].

    Moves no data where x is channels-last, which is why the fused form keeps its feature maps so.
    """
    return x.permute(0, 2, 3, 1).reshape(n, -1, x.shape[3], x.shape[1]).permute(0, 3, 1, 2)


# Horizontal pooling (Eq. 2) -----------------------------------------------------------------------


def horizontal_pooling(x: Tensor, parts: int) -> Tensor:
    """Average plus maximum of each part's strip (Eq. 2): [N, C, H, W] → [N, n, C]."""
    strips = torch.split(x, strip_heights(x.shape[2], parts), dim=2)
    return torch.stack([strip.mean(dim=(2, 3)) + strip.amax(dim=(2, 3)) for strip in strips], dim=1)


def horizontal_pooling_folded(x: Tensor, parts: int) -> Tensor:
    """horizontal_pooling without a loop where the parts are of equal height."""
    if x.shape[2] % parts:
        return horizontal_pooling(x, parts)
    strips = x.permute(0, 2, 3, 1).reshape(x.shape[0], parts, -1, x.shape[1])
    return strips.mean(dim=2) + strips.amax(dim=2)


# Micro-motion capture (Sec. 3.3) ------------------------------------------------------------------


class MicroMotionTemplateBuilder(nn.Module):
    """The MTBs of all n parts (Eq. 4 to 6, Tab. 2); template 1 has window 3, template 2 window 5."""

    def __init__(self, template: int, config: GaitPartConfig) -> None:
        super().__init__()
        self.window = 2 * template + 1
        shapes, name = config.shapes(), f"mtb{template}"
        self.attention = config.attention
        if config.attention:
            self.squeeze = nn.Parameter(torch.empty(shapes[f"{name}.squeeze"]))
            self.excite = nn.Parameter(torch.empty(shapes[f"{name}.excite"]))

    def _template(self, x: Tensor) -> Tensor:
        """TempFunc (Eq. 5): sliding average plus sliding maximum, [b, C, t] → [b, C, t]."""
        pad = self.window // 2
        return F.avg_pool1d(x, self.window, 1, pad) + F.max_pool1d(x, self.window, 1, pad)

    def letter(self, x: Tensor, part: int) -> Tensor:
        """One part's micro-motion features, [b, C, t] → [b, C, t]."""
        motion = self._template(x)
        if not self.attention:
            return motion
        squeeze, excite = self.squeeze[part], self.excite[part]
        hidden = F.leaky_relu(F.conv1d(x, squeeze, padding=1), SLOPE)
        return motion * F.conv1d(hidden, excite, padding=excite.shape[-1] // 2).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """All parts' micro-motion features in grouped convolutions, [b, n·C, t] → [b, n·C, t]."""
        motion = self._template(x)
        if not self.attention:
            return motion
        parts, width = self.squeeze.shape[0], self.excite.shape[-1]
        hidden = F.leaky_relu(F.conv1d(x, self.squeeze.flatten(0, 1), padding=1, groups=parts), SLOPE)
        logits = F.conv1d(hidden, self.excite.flatten(0, 1), padding=width // 2, groups=parts)
        return motion * logits.sigmoid()


# The network (Fig. 2) -----------------------------------------------------------------------------


class GaitPart(nn.Module):
    """GaitPart (Fig. 2): silhouettes in, one embedding a part out.

    The parameters' names and shapes are those of GaitPartConfig.shapes(), Xavier-uniform at first.
    """

    def __init__(self, config: GaitPartConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or GaitPartConfig()
        shapes = config.shapes()
        frame = [nn.Parameter(torch.empty(shapes[f"frame.{i}"])) for i in range(len(config.strips))]
        self.frame = nn.ParameterList(frame)
        self.builders = [MicroMotionTemplateBuilder(template, config) for template in config.templates]
        for template, builder in zip(config.templates, self.builders, strict=True):
            self.add_module(f"mtb{template}", builder)  # so that its weights bear the paper's name
        self.fc = nn.Parameter(torch.empty(shapes["fc"]))
        self.reset()

    def reset(self) -> None:
        """Draw every weight Xavier-uniform; each part's tensors by that part's own fan."""
        for name, parameter in self.named_parameters():
            shape = parameter.shape if name.startswith("frame") else parameter.shape[1:]
            fan = (shape[0] + shape[1]) * math.prod(shape[2:])
            nn.init.uniform_(parameter, -math.sqrt(6 / fan), math.sqrt(6 / fan))

    def load(self, weights: Weights) -> GaitPart:
        """Take float32 NumPy weights, named as in GaitPartConfig.shapes(); returns self.

        Raises WeightsError where a tensor is missing, unknown or of another shape.
        """
        check_weights(self.config, weights, "these weights")
        self.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
        return self

    def weights(self) -> Weights:
        """The weights as contiguous float32 NumPy arrays."""
        state = self.state_dict()
        return {name: state[name].float().contiguous().cpu().numpy() for name in self.config.shapes()}

    def forward(self, silhouettes: Tensor, *, letter: bool = False) -> Tensor:
        """Embeddings of silhouette sequences, [b, t, 64, 44] in 0 to 255 of any dtype → [b, n, e].

        letter: run the paper's letter instead of the fused form. Raises SilhouetteError on another
        shape or on sequences without frames.
        """
        shape = tuple(silhouettes.shape)
        if len(shape) != 4 or shape[2:] != (HEIGHT, WIDTH) or 0 in shape:
            raise SilhouetteError(f"GaitPart takes [batch, frames, {HEIGHT}, {WIDTH}], not {list(shape)}")
        features = self.part_features(silhouettes, letter=letter)
        return self.temporal_head(features, letter=letter)

    def part_features(self, silhouettes: Tensor, *, letter: bool = False) -> Tensor:
        """FPFE and HP (Tab. 1, Eq. 1 and 2), the PR-Matrix: [b, t, 64, 44] → [b, t, n, C]."""
        fconv = fconv_letter if letter else fconv_folded
        pool = horizontal_pooling if letter else horizontal_pooling_folded
        x = silhouettes.flatten(0, 1).unsqueeze(1).to(self.fc.dtype) / 255
        for layer, (weight, strips) in enumerate(zip(self.frame, self.config.strips, strict=True)):
            x = fconv(x, weight, strips)
            if layer == 0 and not letter:
                x = x.contiguous(memory_format=torch.channels_last)
            if self.config.pooled_after(layer):
                x = F.max_pool2d(x, 2)
        pooled = pool(x, self.config.parts)
        return pooled.reshape(*silhouettes.shape[:2], *pooled.shape[1:])

    def temporal_head(self, features: Tensor, *, letter: bool = False) -> Tensor:
        """TFA and FC (Eq. 3 to 12): the PR-Matrix [b, t, n, C] → embeddings [b, n, e]."""
        aggregate = torch.amax if self.config.temporal_pooling == "max" else torch.mean
        if letter:
            embeddings = []
            for part in range(self.config.parts):
                row = features[:, :, part].transpose(1, 2)  # one row of the PR-Matrix, [b, C, t]
                motions = [builder.letter(row, part) for builder in self.builders]
                motion = motions[0] if len(motions) == 1 else motions[0] + motions[1]
                embeddings.append(aggregate(motion, dim=2) @ self.fc[part])
            return torch.stack(embeddings, dim=1)
        rows = features.flatten(2).transpose(1, 2)  # all rows side by side, [b, n·C, t]
        motions = [builder(rows) for builder in self.builders]
        motion = motions[0] if len(motions) == 1 else motions[0] + motions[1]
        pooled = aggregate(motion, dim=2).reshape(-1, self.config.parts, self.config.features)
        return torch.matmul(pooled.transpose(0, 1), self.fc).transpose(0, 1)
