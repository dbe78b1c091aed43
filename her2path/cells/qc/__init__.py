"""Quality control: what of a slide can be trusted, as a map of 16 µm, and as flags."""

from her2path.cells.qc.artefacts import Field, classify
from her2path.cells.qc.assessment import FOCUS_LIMIT, assess, focus_cells, focus_share
from her2path.cells.qc.codes import CODES, Code, first_code, left_out_bits, names_of
from her2path.cells.qc.features import FEATURES, measure_features
from her2path.core.flags import FLAGS, flag

__all__ = ["CODES", "FEATURES", "FLAGS", "FOCUS_LIMIT", "Code", "Field", "assess", "classify",
           "first_code", "flag", "focus_cells", "focus_share", "left_out_bits", "measure_features",
           "names_of"]  # fmt: skip
