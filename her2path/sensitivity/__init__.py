"""The detection limit: faint lines of known strength, and which of them are found."""

from her2path.sensitivity.curve import Curve, Spikes, conclude, doses, fit, join, with_limits
from her2path.sensitivity.lines import Lines, draw_lines, lay
from her2path.sensitivity.sharpness import blur_of, edge_spread

__all__ = [
    "Curve", "Lines", "Spikes", "blur_of", "conclude", "doses", "draw_lines", "edge_spread", "fit",
    "join", "lay", "with_limits",
]  # fmt: skip
