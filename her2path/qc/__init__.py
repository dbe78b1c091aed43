"""Quality control: what of a slide can be trusted, as a map of 16 µm, and as flags."""

from her2path.flags import FLAGS, flag
from her2path.qc.artefacts import Field, classify
from her2path.qc.assessment import FOCUS_LIMIT, assess, focus_cells, focus_share
from her2path.qc.codes import CODES, Code, first_code, left_out_bits, names_of
from her2path.qc.features import FEATURES, measure_features

__all__ = ["CODES", "FEATURES", "FLAGS", "FOCUS_LIMIT", "Code", "Field", "assess", "classify",
           "first_code", "flag", "focus_cells", "focus_share", "left_out_bits", "measure_features",
           "names_of"]  # fmt: skip
