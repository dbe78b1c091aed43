"""Agreement between readers, and of readers with the program: reads in, figures out.

Kernels alone: what is read from files is in `her2path.io.reads`, what a result says in
`her2path.runs.cohort`.
"""

from __future__ import annotations

from her2path.scoring.agreement.differences import Comparison, parse_comparison
from her2path.scoring.agreement.measure import AgreeOptions, measure
from her2path.scoring.agreement.outcome import associate

__all__ = ["AgreeOptions", "Comparison", "associate", "measure", "parse_comparison"]
