"""The detection limit: faint lines of known strength, and which of them are found."""

from her2path.cells.sensitivity.compression import Jpeg, compress, jpeg_of
from her2path.cells.sensitivity.curve import (
    Curve,
    Spikes,
    conclude,
    doses,
    fit,
    join,
    limits_od,
    with_limits,
)
from her2path.cells.sensitivity.lines import Lines, draw_lines, lay, off_borders
from her2path.cells.sensitivity.recompression import recompress
from her2path.cells.sensitivity.sharpness import blur_of, edge_spread

__all__ = [
    "Curve", "Jpeg", "Lines", "Spikes", "blur_of", "compress", "conclude", "doses", "draw_lines",
    "edge_spread", "fit", "join", "jpeg_of", "lay", "limits_od",
    "off_borders", "recompress", "with_limits",
]  # fmt: skip
