"""Quality control: what of a slide can be trusted, as a map of 16 µm, and as flags."""

from her2path.flags import FLAGS, flag
from her2path.qc.assessment import FOCUS_LIMIT, assess, focus_cells, focus_share
from her2path.qc.features import FEATURES, measure_features

__all__ = ["FEATURES", "FLAGS", "FOCUS_LIMIT", "assess", "flag", "focus_cells", "focus_share",
           "measure_features"]  # fmt: skip
