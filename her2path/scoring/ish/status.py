"""The ISH status of a case or an area: figures and IHC in, status and comment out."""

from __future__ import annotations

from her2path.scoring.guidelines.ruleset import IshScheme
from her2path.scoring.ish.figures import Figures
from her2path.scoring.ish.rules import SCHEMES, WITH_IHC, first_line
from her2path.scoring.ish.words import COMMENTS

__all__ = ["case_status", "status_of"]

Status = tuple[str, str]


def status_of(
    found: Figures, ihc: str | None, scheme: IshScheme, recounted: bool = False
) -> Status:
    """Return status and comment of one count.

    Parameters
    ----------
    found : Figures
        The count's figures.
    ihc : str or None
        ``0``, ``1+``, ``2+``, ``3+``.
    scheme : str
        How the guideline reads ISH.
    recounted : bool
        Whether this count is a recount, which settles groups 2-4 at IHC 2+.

    Returns
    -------
    (str, str)
        ``positive``, ``negative``, ``recount_due``, ``equivocal``, ``ihc_needed`` or
        ``not_evaluable``, and a comment, empty where there is nothing to say.
    """
    if not found.cells:
        return "not_evaluable", COMMENTS["few"]
    if found.group is None:
        return _single(found, ihc, scheme, recounted)
    if scheme == "asco_cap_2018":
        return _grouped(found.group, ihc, recounted)
    rules = SCHEMES[scheme]
    if found.values[rules.needs] is None:
        return "not_evaluable", COMMENTS["no_fraction"]
    line = first_line(rules.dual, found.values)
    return _settled(line.status, COMMENTS.get(line.comment, ""), recounted)


def _settled(status: str, comment: str, recounted: bool) -> Status:
    # a gastric count that stays between 4.0 and 6.0 has a ratio below 2.0 twice
    if status == "recount_due" and recounted:
        return "negative", COMMENTS["gastric_still"]
    return status, comment


def _grouped(group: int, ihc: str | None, recounted: bool) -> Status:
    if ihc is None:
        if group in (2, 3, 4):
            return "ihc_needed", COMMENTS["ihc_needed"]
        ihc = "2+"
    if ihc == "2+" and group in (2, 3, 4) and not recounted:
        return "recount_due", COMMENTS["recount"]
    status, comment = WITH_IHC[group][ihc]
    return status, COMMENTS.get(comment, "")


def _single(found: Figures, ihc: str | None, scheme: IshScheme, recounted: bool) -> Status:
    line = first_line(SCHEMES[scheme].single, found.values)
    if line.status != "ihc_needed" or ihc is None:
        return _settled(line.status, COMMENTS.get(line.comment, ""), recounted)
    if ihc == "2+":
        return "ihc_needed", COMMENTS["single_dual"]
    if ihc == "3+":
        return "positive", COMMENTS["by_ihc_3"]
    return "negative", COMMENTS["single_review"]


def case_status(
    first: Figures, again: Figures | None, ihc: str | None, scheme: IshScheme, min_cells: int
) -> tuple[str, str, bool]:
    """Return a case's status, comment, and whether the recount decides.

    A recount decides as soon as it has the minimum of cells; where its group differs from the
    first count's the comment asks for adjudication.
    """
    if again is not None and again.cells >= min_cells:
        status, comment = status_of(again, ihc, scheme, recounted=True)
        comments = [_recount_comment(first, again, min_cells), comment]
        return status, " ".join(c for c in comments if c), True
    if first.cells < min_cells:
        few = f"{COMMENTS['few']} {first.cells} were counted, {min_cells} are needed."
        return "not_evaluable", few, False
    status, comment = status_of(first, ihc, scheme)
    if again is not None and status == "recount_due":
        small = f"{COMMENTS['recount_small']} {again.cells} were counted, {min_cells} are needed."
        comment = f"{comment} {small}"
    return status, comment, False


def _recount_comment(first: Figures, again: Figures, min_cells: int) -> str:
    if first.cells < min_cells or first.group is None or again.group is None:
        return ""
    if first.group == again.group:
        return COMMENTS["recount_same"]
    return (
        f"{COMMENTS['recount_differs']} First count: group {first.group}; recount: {again.group}."
    )
