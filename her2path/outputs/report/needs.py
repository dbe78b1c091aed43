"""Why a slide needs a look, and which first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from her2path.runs.cohort.signed import Signed
from her2path.scoring.guidelines.trace import FLAGS

__all__ = ["needs_a_look"]


def needs_a_look(tree: dict[str, Any], signed: Sequence[Signed] = ()) -> list[tuple[int, str]]:
    """Return the reasons why a result needs a look, the gravest first; none where it does not.

    Parameters
    ----------
    tree : dict
        ``result.json``.
    signed : sequence of Signed
        Scores that readers signed off.

    Returns
    -------
    list of (int, str)
        Rank (the less the graver) and the reason in words: not evaluable; a reader differs; the
        score is not certain; the network differs; ISH is due.
    """
    flags = (tree.get("qc") or {}).get("flags") or []
    score = tree.get("score") or {}
    if not score:
        told = [f["message"] for f in flags if f["severity"] == "fail"]
        return [(0, told[0] if told else "not evaluable")]
    found = [(1, f"{s.reader} says {s.words}, the program {score['ihc']}")
             for s in signed if s.score and _plain(s.score) != score["ihc"]]  # fmt: skip
    sure = score.get("uncertainty") or {}
    found += [(2, _in_words(r)) for r in sure.get("second_look_reasons") or ()]
    cnn = tree.get("cnn") or {}
    if cnn.get("agrees") is False:
        found.append((3, f"the network says {cnn.get('score')}"))
    if score.get("reflex_ish") and not score.get("ish_status"):
        found.append((4, "ISH is due"))
    return sorted(found)


def _in_words(reason: str) -> str:
    """Return a reason for a second look; a flag by its sentence."""
    return FLAGS.get(reason.removeprefix("flag "), reason)


def _plain(score: str) -> str:
    """Return a reader's score as one of four: strata of 0 are 0."""
    return "0" if score.startswith("0") else score
