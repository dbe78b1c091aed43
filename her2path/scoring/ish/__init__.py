"""ISH: counts of HER2 and CEP17 signals, cell by cell, to groups, status and heterogeneity."""

from her2path.scoring.ish.interpret import interpret, point_tables
from her2path.scoring.ish.read import read_counts
from her2path.scoring.ish.words import parse_ihc
from her2path.scoring.ish.write import json_text, write

__all__ = ["interpret", "json_text", "parse_ihc", "point_tables", "read_counts", "write"]
