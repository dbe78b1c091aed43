"""What a run makes of the annotations it was given: refused, used as meant, or flagged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from her2path.core.errors import AnnotationError, one_line
from her2path.core.flags import flag
from her2path.core.results import QcFlag
from her2path.core.settings import Settings
from her2path.io.annotations import Annotations, control_of
from her2path.io.slide import SlideInfo
from her2path.runs.case.plan import Plan

__all__ = ["annotation_flags", "check_fits", "check_usable"]

#: annotations of which more lies outside the tissue are refused
MAX_OUTSIDE = 0.5
#: so many classes or kinds of object are named in one line
NAMED = 6
#: so many words of the settings' list of tumour classes are named in an error
SHOWN_CLASSES = 8


def check_usable(annotations: Annotations, settings: Settings, path: Path) -> None:
    """Refuse annotations that mark no tumour where tumour was to be read from them.

    Areas of unknown classes are no reason where they serve as regions; areas that only leave
    something out are none under ``auto``.

    Raises
    ------
    AnnotationError
        Names the classes found, and those that are tumour.
    """
    method = settings.tumour.method
    if annotations.tumour is not None or method not in ("auto", "annotation"):
        return
    meant_as_regions = settings.regions.kind == "annotation"
    if method == "auto" and (meant_as_regions or not annotations.unknown):
        return
    found: dict[str, int] = {}
    for area in annotations.items:
        found[area.classification] = found.get(area.classification, 0) + 1
    tumour = ", ".join(settings.tumour.classes[:SHOWN_CLASSES])
    raise AnnotationError(
        f"no area of {one_line(path, 120)} is tumour by its class: {_listed(found)}",
        f"Call tumour areas by one of tumour.classes ({tumour}, ...), set tumour.classes, or use "
        "tumour.method=morphology",
    )


def check_fits(annotations: Annotations, plan: Plan, info: SlideInfo) -> None:
    """Refuse annotations that lie beside the tissue: they belong to another slide or crop.

    Raises
    ------
    AnnotationError
    """
    outside = annotations.share_outside(plan.in_tissue, info.width_px, info.height_px)
    if outside > MAX_OUTSIDE:
        raise AnnotationError(
            f"{outside:.0%} of the annotated area lies outside the tissue",
            "Give this slide's annotations; where QuPath drew them on a cropped slide "
            "(MRXS and others), add --qupath-crop",
        )


def annotation_flags(annotations: Annotations | None, selection: str) -> list[QcFlag]:
    """Return the flags that annotations bring.

    Parameters
    ----------
    annotations : Annotations or None
        As they were used.
    selection : str
        How tumour was selected in the end: ``annotation``, ``morphology`` or ``all``.
    """
    if annotations is None:
        return []
    flags = []
    if annotations.mended:
        flags.append(flag("ANNOTATIONS_MENDED", f"Mended: {annotations.mended}."))
    if annotations.unknown:
        flags.append(flag("ANNOTATION_CLASSES_UNKNOWN", f"{_listed(annotations.unknown)}."))
    if selection == "annotation" and annotations.unclassed:
        flags.append(flag("ANNOTATIONS_WITHOUT_CLASS", f"Areas: {annotations.unclassed}."))
    # control areas alone are no try at selecting tumour
    only_controls = all(_is_control(a.classification) for a in annotations.items)
    if selection != "annotation" and not only_controls:
        flags.append(flag("ANNOTATIONS_NOT_SELECTING", f"Tumour was selected by {selection}."
                          if selection == "morphology" else ""))  # fmt: skip
    if annotations.left_out:
        usual = all(left.usual for left, _ in annotations.left_out)
        words = {f"{left.what} {left.quoted!r}" if left.quoted else left.what: count
                 for left, count in annotations.left_out}  # fmt: skip
        flags.append(flag("ANNOTATION_OBJECTS_LEFT_OUT", f"{_listed(words, '')}.",
                          "info" if usual else None))  # fmt: skip
    return flags


def _is_control(classification: str) -> bool:
    try:
        return control_of(classification) is not None
    except ValueError:
        return True


def _listed(counts: Mapping[str, int], quote: str = "'") -> str:
    """Return names with their counts, the first few of them."""
    words = [f"{quote}{name}{quote} ({n})" if name else f"no class ({n})"
             for name, n in counts.items()]  # fmt: skip
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return ", ".join(words[:NAMED]) + more
