"""The spatial block bootstrap: how sure a score is.

Cells are not independent, so squares of tissue are drawn, not cells. Each draw (1) shifts the grid
of blocks by a random offset, (2) draws blocks with replacement, fewer than there are where the
correlogram shows that plain blocks understate the spread, (3) moves the three intensity cut-offs
by one common factor, log-normal about 1 (a slide that is stained or scanned darker moves them
together), (4) decides what share of the uncertain cells is stained, and (5) scores the counts by
the guideline; before that (4a) cells of doubtful kind are taken out as often as they may be no
tumour, and (4b) what the slide's detection limit lets through is put in (`uncertainty.unseen`),
which then stands for the uncertain cells. The draws' factors and shares are stratified, so that few
draws fill their range.

Intervals of fractions come from the same variance: at every draw's cut-offs, Wilson's interval
with the effective number of independent cells and Student's quantile; the 2.5 and 97.5 percentiles
over the draws are reported. A cluster rule asks whether a cluster is in this specimen: its draws
move the cut-offs and the uncertain cells only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from her2path.core.results import Sensitivity
from her2path.core.settings import Settings, load_settings
from her2path.scoring.guidelines import RuleSet, rule_set
from her2path.scoring.uncertainty.cells import read_cells
from her2path.scoring.uncertainty.draws import make_draws
from her2path.scoring.uncertainty.model import Uncertainty
from her2path.scoring.uncertainty.summary import summarise

__all__ = ["bootstrap"]


def bootstrap(
    table: Any,
    guideline: str | Path | RuleSet = "asco_cap_2018",
    settings: Settings | None = None,
    measured: Sensitivity | None = None,
) -> Uncertainty:
    """Tell how sure a score is.

    Parameters
    ----------
    table : pyarrow.Table, pandas.DataFrame or dict of arrays
        ``x_um``, ``y_um`` (µm), ``pattern``; optionally ``cell_type`` (only ``tumour`` counts),
        ``completeness`` with the column that ``membrane.measure`` names (without them the cut-offs
        are not moved), ``uncertain``, and ``kind_certainty``.
    guideline : str, path or RuleSet
        The rule set.
    settings : Settings, optional
        ``score.bootstrap_draws``, ``score.bootstrap_block_um``, ``score.noise_floor``,
        ``score.second_look_at``, ``membrane.cutoffs``, ``membrane.cutoffs_relative_error``,
        ``seed``.
    measured : Sensitivity, optional
        The slide's detection limit; without it nothing is unseen but the ``uncertain`` cells.

    Returns
    -------
    Uncertainty
        Probabilities, intervals, distances, and whether ISH or a second look is due.

    Raises
    ------
    NotEvaluable
        Without any tumour cell.
    UsageError
        For a table without the columns, or with values that are no numbers.
    """
    chosen, rules = settings or load_settings(), rule_set(guideline)
    cells = read_cells(table, chosen.membrane)
    return summarise(make_draws(cells, rules, chosen, measured), rules, chosen)
