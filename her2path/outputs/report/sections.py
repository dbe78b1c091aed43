"""What a report is made of: a declarative list of sections, each a template and what it needs.

A section that cannot be made says why, in one line at the end; none vanishes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from her2path.core.errors import Her2PathError, one_line
from her2path.outputs.report import calibration_parts, cards, case_parts, parts, readers
from her2path.outputs.report.context import CannotSay, Context

__all__ = ["CASE_SECTIONS", "SLIDE_SECTIONS", "Made", "Section", "apart", "make_all"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes
    ----------
    id : str
        Anchor, and the name of its template ``section_<id>.html.j2``.
    title : str
        Heading.
    make : callable
        From the context to the template's variables; raises `CannotSay` with the reason.
    """

    id: str
    title: str
    make: Callable[[Any], Mapping[str, Any]]


@dataclass(frozen=True)
class Made:
    """A section that was tried: its variables, or the reason why it is missing."""

    section: Section
    values: Mapping[str, Any]
    reason: str | None
    fault: bool = False

    @property
    def template(self) -> str:
        """The template's file name."""
        return f"section_{self.section.id}.html.j2" if self.reason is None else "missing.html.j2"


SLIDE_SECTIONS: tuple[Section, ...] = (
    Section("readers", "Readers", readers.of_slide),
    Section("regions", "Where", parts.region_maps),
    Section("gallery", "Cells to check by eye", cards.gallery),
    Section("patterns", "Staining patterns", parts.patterns),
    Section("strength", "Strength and completeness of the membrane", parts.strength),
    Section("calibration", "Calibration and receptors", calibration_parts.calibration),
    Section("heterogeneity", "Heterogeneity", parts.heterogeneity),
    Section("bystander", "Reach of positive cells", parts.bystander),
    Section("biopsy", "Virtual biopsy", parts.virtual_biopsy),
    Section("trace", "How the score was decided", parts.trace),
    Section("whatif", "The same cells under other guidelines", parts.what_if),
    Section("ish", "In-situ hybridisation", parts.ish),
    Section("cnn", "Second look by the neural network", parts.cnn),
    Section("statistics", "Appendix: statistics of heterogeneity", parts.statistics),
    Section("methods", "Methods and settings", parts.methods),
    Section("provenance", "Provenance", parts.provenance),
)

CASE_SECTIONS: tuple[Section, ...] = (
    Section("slides", "Slides of the case", case_parts.slides),
    Section("readers", "Readers", readers.of_case),
    Section("patterns", "Staining patterns of all slides together", parts.patterns),
    Section("heterogeneity", "Heterogeneity", parts.heterogeneity),
    Section("bystander", "Reach of positive cells", parts.bystander),
    Section("timepoints", "Change over time", case_parts.timepoints),
    Section("trace", "How the score of the highest slide was decided", parts.trace),
    Section("ish", "In-situ hybridisation", parts.ish),
    Section("statistics", "Appendix: statistics of heterogeneity", parts.statistics),
    Section("provenance", "Provenance", parts.provenance),
)


def make_all(sections: tuple[Section, ...], context: Context) -> list[Made]:
    """Try every section."""
    return [_make(section, context) for section in sections]


def apart(made: list[Made], why: str = "") -> tuple[list[Made], list[tuple[str, list[Made]]]]:
    """Return the sections that hold something, and the others by their reason, for one line.

    A section that a fault of the program kept away stays in its place. ``why`` is what a reason
    ends with where the slide is not evaluable: that stands on the first screen already.
    """
    shown = [m for m in made if m.reason is None or m.fault]
    absent: dict[str, list[Made]] = {}
    for one in made:
        if one.reason is not None and not one.fault:
            known = bool(why) and one.reason.endswith(why)
            reason = "The slide is not evaluable." if known else one.reason
            absent.setdefault(reason, []).append(one)
    return shown, list(absent.items())


def _make(section: Section, context: Context) -> Made:
    try:
        return Made(section, section.make(context), None)
    except CannotSay as exc:
        return Made(section, {}, str(exc))
    except Her2PathError as exc:
        return Made(section, {}, str(exc))
    except Exception as exc:  # one faulty section must not cost the reader all the others
        log.error("section %s could not be made: %s", section.id, exc)
        log.debug("section %s", section.id, exc_info=True)
        fault = f"{type(exc).__name__}: {one_line(exc, 200)}"
        return Made(section, {}, f"A fault of the program kept this section away ({fault}).", True)
