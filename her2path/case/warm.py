"""Compiles the kernels into numba's cache: ``python -m her2path.case.warm``.

On a fresh installation the first slide pays for compiling. `demo` starts this in a process of its
own while it paints its slide, so that both processors are busy.
"""

from __future__ import annotations

import numpy as np

from her2path import analysis, stain
from her2path.geometry import Box
from her2path.settings import Settings

__all__ = ["compile_kernels"]

SIDE_PX = 512
WHITE = 240
SPACING_PX = 64
RADIUS_PX = 16


def compile_kernels() -> int:
    """Run both passes on a drawing of stained cells; return how many were found."""
    settings = Settings()
    yy, xx = np.mgrid[:SIDE_PX, :SIDE_PX]
    dy, dx = (v % SPACING_PX - SPACING_PX // 2 for v in (yy, xx))
    far = np.hypot(dy, dx)
    nucleus = 0.4 * (far < RADIUS_PX)
    line = 0.6 * np.exp(-(((far - 1.7 * RADIUS_PX) / 3.0) ** 2))
    od = nucleus[..., None] * np.array([0.65, 0.70, 0.29]) + line[..., None] * np.array(
        [0.27, 0.57, 0.78]
    )
    rgb = np.clip(WHITE * 10.0**-od, 0, 255).astype(np.uint8)
    fixed = settings.stain.model_copy(
        update={"method": "fixed", "white_point": (float(WHITE),) * 3}
    )
    model = stain.estimate([rgb], 0.25, fixed)
    optics = analysis.Optics(0.25, 2, model)
    core = Box(64, 64, SIDE_PX - 64, SIDE_PX - 64)
    found = analysis.measure(rgb, Box(0, 0, SIDE_PX, SIDE_PX), core, optics, settings)
    return int(analysis.resolve(found.raw, core, optics, settings).num_rows)


if __name__ == "__main__":
    compile_kernels()
