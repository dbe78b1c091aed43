"""torch and safetensors: imported here, on demand, and nowhere else."""

from __future__ import annotations

from typing import Any

from her2path.core._optional import require

__all__ = ["PURPOSE", "functional", "nn", "safetensors_numpy", "torch"]

PURPOSE = "The CNN scorer (--cnn, train)"

torch: Any = require("torch", PURPOSE)
safetensors_numpy: Any = require("safetensors.numpy", PURPOSE)
nn: Any = torch.nn
functional: Any = torch.nn.functional
