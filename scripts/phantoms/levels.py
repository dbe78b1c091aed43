"""How strong a membrane's line is in the drawings, as tissue shows it; one place for all of them.

Own crest OD before the scanner's blur: a line between two cells shows the sum of both. What tissue
shows, and how a line's visible crest relates to these, stands in docs/phantom.md.
"""

from __future__ import annotations

import numpy as np

#: own crest OD of none, faint, moderate and intense lines, least and most
CREST = ((0.0, 0.0), (0.03, 0.085), (0.09, 0.25), (0.27, 0.80))
#: how widely laboratories differ in strength: deviation of its logarithm
LABORATORIES = 0.30


def laboratory(rng: np.random.Generator) -> float:
    """Return the gain on every membrane of one laboratory's stain."""
    return float(np.exp(rng.normal(0.05, LABORATORIES)))
