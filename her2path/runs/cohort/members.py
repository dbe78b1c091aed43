"""Which slides, and which cores of them, make up which case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from her2path.runs.cohort.inputs import read_tma_layout
from her2path.runs.cohort.manifest import Entry, safe_name
from her2path.runs.cohort.tma import TmaMap

__all__ = ["CasePlan", "Member", "Part", "cases_of", "member_of"]


@dataclass(frozen=True)
class Member:
    """What a case needs to know of a slide.

    Attributes
    ----------
    place : int
        Its place in the batch.
    slide_id, folder, case_id : str
        ``folder`` is its name below ``slides/``.
    done : bool
        Whether there is a result.
    cores : TmaMap or None
        Whose a TMA's cores are.
    """

    place: int
    slide_id: str
    folder: str
    case_id: str
    done: bool = True
    specimen: str = ""
    timepoint: str = ""
    reader_score: str = ""
    ish: Path | None = None
    cores: TmaMap | None = None
    extra: dict[str, str] = field(default_factory=dict)
    #: whether names are hidden
    hidden: bool = False


@dataclass(frozen=True)
class Part:
    """A slide, or some cores of it, as part of a case."""

    member: Member
    cores: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class CasePlan:
    """One case and its parts, in the order of the manifest."""

    case_id: str
    folder: str
    parts: tuple[Part, ...]


def member_of(place: int, entry: Entry, done: bool) -> Member:
    """Return what a case needs of a manifest's row."""
    return Member(
        place, entry.slide_id, entry.folder, entry.case_id, done, entry.specimen, entry.timepoint,
        entry.reader_score, entry.ish,
        read_tma_layout(entry.tma_map) if entry.tma_map is not None else None, entry.extra,
        entry.hidden,
    )  # fmt: skip


def cases_of(members: Sequence[Member]) -> list[CasePlan]:
    """Group members into cases, in order of first appearance; a TMA's cores go to their cases."""
    parts: dict[str, list[Part]] = {}
    for member in members:
        if member.cores is None:
            parts.setdefault(member.case_id, []).append(Part(member))
            continue
        by_case: dict[str, list[tuple[int, int]]] = {}
        for place, case_id in sorted(member.cores.cases.items()):
            by_case.setdefault(case_id, []).append(place)
        for case_id, places in by_case.items():
            parts.setdefault(case_id, []).append(Part(member, tuple(places)))
    return [CasePlan(c, safe_name(c), tuple(p)) for c, p in parts.items()]
