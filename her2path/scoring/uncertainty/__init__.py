"""How sure a score is: a spatial bootstrap that knows that cells are not independent."""

from her2path.scoring.uncertainty.bootstrap import bootstrap
from her2path.scoring.uncertainty.model import Distance, Uncertainty, add_to

__all__ = ["Distance", "Uncertainty", "add_to", "bootstrap"]
