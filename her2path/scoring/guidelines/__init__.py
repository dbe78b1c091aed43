"""Guidelines: versioned rule sets that turn counts of staining patterns into a score."""

from her2path.scoring.guidelines.category import (
    category_from_score,
    category_of,
    settled_by_ish,
)
from her2path.scoring.guidelines.clusters import cluster_levels, largest_clusters
from her2path.scoring.guidelines.engine import (
    h_score,
    incomplete_score,
    pattern_score,
    positive_definition,
    rule_indices,
    score,
    score_cells,
)
from her2path.scoring.guidelines.load import get_rule_set as rule_set
from her2path.scoring.guidelines.load import load_rule_set, names, parse_rule_set
from her2path.scoring.guidelines.mix import Limits, Mix
from her2path.scoring.guidelines.ruleset import Rule, RuleSet
from her2path.scoring.guidelines.whatif import what_if
from her2path.scoring.guidelines.wording import report_text

__all__ = [
    "Limits",
    "Mix",
    "Rule",
    "RuleSet",
    "category_from_score",
    "category_of",
    "cluster_levels",
    "h_score",
    "incomplete_score",
    "largest_clusters",
    "load_rule_set",
    "names",
    "parse_rule_set",
    "pattern_score",
    "positive_definition",
    "report_text",
    "rule_indices",
    "rule_set",
    "score",
    "score_cells",
    "settled_by_ish",
    "what_if",
]
