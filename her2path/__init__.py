"""her2path: quantifies HER2 on immunohistochemistry slides. Research use only.

>>> import her2path as h2                                             # doctest: +SKIP
>>> result = h2.score_slide("case.svs", out="out/case")               # doctest: +SKIP
>>> result.score.ihc, result.heterogeneity.pattern.type               # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from her2path.core._folders import settle as _settle

#: the one place; pyproject.toml reads it from here
__version__ = "0.1.0"

if TYPE_CHECKING:
    from her2path.api import agree, score_slide
    from her2path.core.errors import Her2PathError
    from her2path.core.settings import Settings, load_settings
    from her2path.opened import open_result as open
    from her2path.runs.case import SlideResult
    from her2path.scoring import ish
    from her2path.scoring.guidelines import score_cells
    from her2path.space import heterogeneity

__all__ = [
    "Her2PathError",
    "Settings",
    "SlideResult",
    "__version__",
    "agree",
    "heterogeneity",
    "ish",
    "load_settings",
    "open",
    "score_cells",
    "score_slide",
]

_settle()

#: exported name -> module that holds it; loaded on first use, so that `import her2path` is instant
_HOME = {
    "Her2PathError": "her2path.core.errors",
    "Settings": "her2path.core.settings",
    "SlideResult": "her2path.runs.case",
    "agree": "her2path.api",
    "load_settings": "her2path.core.settings",
    "score_cells": "her2path.scoring.guidelines",
    "score_slide": "her2path.api",
}

#: modules that are shown at the top, as `her2path.ish`
_SHOWN = {"heterogeneity": "her2path.space.heterogeneity", "ish": "her2path.scoring.ish"}


def __getattr__(name: str) -> Any:
    if name == "open":
        return importlib.import_module("her2path.opened").open_result
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _SHOWN:
        return importlib.import_module(_SHOWN[name])
    raise AttributeError(f"module 'her2path' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
