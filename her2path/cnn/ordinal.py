"""Ordered classes as conditional yes/no questions.

Logit k answers "above class k, given that it is at least k" (CORN: Shi, Cao & Raschka 2023,
doi:10.1007/s10044-023-01181-9), so that the probabilities of "at least k" can only fall with k.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.schema import SCORES

__all__ = ["CLASSES", "LOGITS", "corn_loss", "probabilities"]

CLASSES = len(SCORES)
LOGITS = CLASSES - 1


def probabilities(logits: NDArray[Any], temperature: float = 1.0) -> NDArray[np.float64]:
    """Return class probabilities.

    Parameters
    ----------
    logits : float (N, 3)
    temperature : float
        Logits are divided by it; above 1 is less sure.

    Returns
    -------
    float64 (N, 4)
        Rows sum to 1.
    """
    z = np.clip(np.asarray(logits, np.float64) / temperature, -40.0, 40.0)
    above = np.cumprod(1.0 / (1.0 + np.exp(-z)), axis=1)
    at_least = np.concatenate([np.ones((len(z), 1)), above, np.zeros((len(z), 1))], axis=1)
    return np.asarray(at_least[:, :-1] - at_least[:, 1:])


def corn_loss(logits: Any, labels: Any, weights: Any) -> Any:
    """Return the mean weighted loss of (B, 3) logits, torch tensors in and out.

    Each question is asked only of the patches that reach it.

    Parameters
    ----------
    logits : tensor (B, 3)
    labels : int64 tensor (B,)
        0..3.
    weights : float tensor (B,)
        One a patch, for class imbalance.
    """
    from her2path.cnn._torch import functional, torch

    steps = torch.arange(logits.shape[1], device=logits.device)
    asked = (labels[:, None] >= steps[None]).to(logits.dtype) * weights[:, None]
    target = (labels[:, None] > steps[None]).to(logits.dtype)
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss * asked).sum() / asked.sum().clamp(min=1e-6)
