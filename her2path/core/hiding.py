"""What ``--pseudonymise`` makes of settings: no path, and no words of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from her2path.core.errors import UsageError
from her2path.core.settings import Settings, TumourSettings

__all__ = ["check_hideable", "hidden_settings", "run_mark"]


def check_hideable(guideline: str) -> None:
    """Refuse a rule set that is named by a path: a result says by which rules it was made.

    Raises
    ------
    UsageError
    """
    if Path(guideline).name != guideline:
        raise UsageError(
            "--pseudonymise writes no path, and the guideline is one",
            "Run it from the folder of the rule set, and give the file's name alone",
        )


def run_mark(fingerprint: str | None, settings: Settings, hidden: bool) -> dict[str, Any]:
    """Return what an unfinished run is known by: only the same one goes on with it."""
    mark = {"run": fingerprint, "block_px": settings.stream.block_px}
    return {**mark, "hidden": True} if hidden else mark


def hidden_settings(settings: Settings, model: str | None = None) -> Settings:
    """Return settings as they may be written down.

    Parameters
    ----------
    settings : Settings
    model : str, optional
        What a CNN of one's own is called in place of its path.
    """
    known = TumourSettings()
    changes: dict[str, object] = {
        "tumour.classes": _known(settings.tumour.classes, known.classes),
        "tumour.exclude": _known(settings.tumour.exclude, known.exclude),
    }
    # which assay a calibration was for stays: it decides a flag, and names products, not people
    made = settings.calibration.made_from
    if made:
        changes["calibration.made_from"] = [
            source.model_copy(update={"name": f"{source.kind} {i}", "batch": None, "date": None})
            .model_dump(mode="json") for i, source in enumerate(made, 1)
        ]  # fmt: skip
    if settings.cnn.model not in (None, "builtin"):
        changes["cnn.model"] = model or "own"
    return settings.replace(changes)


def _known(words: tuple[str, ...], shipped: tuple[str, ...]) -> list[str]:
    listed = {w.casefold() for w in shipped}
    return [w for w in words if w.casefold() in listed]
