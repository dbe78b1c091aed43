"""What the reader is taught: edges, own membrane, kind, staining, completeness."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from her2path.cells.reading.inputs import STEP_UM
from scripts.fit.batches import CellTruth
from scripts.fit.nets import BINS

#: radii of the reader's bins, and how sharply an edge is taught, µm
RADIUS_UM = (torch.arange(BINS) + 0.5) * 2 * STEP_UM
SHARP_UM, FARTHEST_UM = 0.55, 14.2


def known_bce(said: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean binary cross entropy over what is known."""
    known = torch.isfinite(truth)
    target = torch.where(known, truth, torch.zeros_like(truth))
    w = known.float() if weight is None else known.float() * weight
    loss = functional.binary_cross_entropy_with_logits(said, target, reduction="none")
    return (loss * w).sum() / w.sum().clamp(min=1.0)


def edge_loss(said: Tensor, radius: Tensor) -> Tensor:
    """Return how far the distribution over bins (N, 24, 16) is from edges at radii (N, 24)."""
    known = torch.isfinite(radius) & (radius < FARTHEST_UM)
    r = torch.where(known, radius, torch.ones_like(radius))[..., None]
    truth = torch.exp(-0.5 * ((RADIUS_UM - r) / SHARP_UM) ** 2)
    truth = truth / truth.sum(-1, keepdim=True)
    log_p = torch.log_softmax(said, -1)
    surprise = -(truth * log_p).sum(-1)
    off = ((log_p.exp() * RADIUS_UM).sum(-1) - r[..., 0]).abs()
    return ((surprise + 0.3 * off) * known).sum() / known.sum().clamp(min=1)


def whole_loss(own: Tensor, truth: CellTruth) -> Tensor:
    """Return how far the mean over the places is from what a reader said of the whole ring."""
    share = torch.sigmoid(own).mean(1)
    whole = torch.nan_to_num(truth.complete, nan=-1.0)
    stained = torch.nan_to_num(truth.stained, nan=0.0) > 0.7
    yes, no = whole > 0.7, (whole == 0.0) & stained
    low = ((0.92 - share).clamp(min=0) * yes).sum() / yes.sum().clamp(min=1)
    off = (share - 0.75).clamp(min=0) + (0.25 - share).clamp(min=0)
    return low + (off * no).sum() / no.sum().clamp(min=1)


def reader_loss(said: list[Tensor], truth: CellTruth, real: bool) -> Tensor:
    """Return the loss of a batch; ``said`` = edges, own, verdict."""
    edges, own, verdict = said
    known = torch.isfinite(truth.kind[:, 0])
    kind = torch.where(known[:, None], truth.kind, torch.zeros_like(truth.kind))
    of_kind = -(kind * torch.log_softmax(verdict[:, :3], 1)).sum(1)
    total = (1.0 if real else 0.3) * (of_kind * known).sum() / known.sum().clamp(min=1)
    total = total + (1.0 if real else 0.7) * known_bce(verdict[:, 3], truth.stained)
    some = (torch.nan_to_num(truth.stained) > 0.4).float()
    total = total + 0.4 * known_bce(verdict[:, 4], truth.complete, some)
    total = total + (0.7 if real else 1.5) * known_bce(own, truth.own)
    if real:
        return total + whole_loss(own, truth)
    return (
        total
        + 0.5 * edge_loss(edges[:, 0], truth.border)
        + 0.4 * edge_loss(edges[:, 1], truth.nucleus)
    )
