"""The decision in words: the rule that fired, and every comparison on the way to it."""

from __future__ import annotations

from her2path.scoring.guidelines.grammar import Compare, Condition, percent
from her2path.scoring.guidelines.mix import Limits, Mix
from her2path.scoring.guidelines.ruleset import RuleSet

__all__ = ["FLAGS", "compare_words", "decision_trace", "rule_words"]

#: what each flag means
FLAGS: dict[str, str] = {
    "FOCAL_3P": "intense staining of very limited extent; another sample may give another share",
    "BASOLATERAL": "moderate to intense but incomplete (basolateral or lateral) staining",
    "FAINT_COMPLETE": "faint but complete staining in more than 10 %, which no definition covers: "
    "second look",
    "OUTSIDE_DEFINITION": "cells outside the definition of this score: second look",
    "STAINED_WITHOUT_CLUSTER": "stained tumour cells, but no cluster of them",
    "FEW_CELLS": "fewer tumour cells than score.min_cells",
    "ISH_IHC_DISCORDANT": "ISH and IHC disagree: review both",
    "SECOND_LOOK": "the score is not certain: second look",
}


def compare_words(compare: Compare, limits: Limits) -> str:
    """Return a comparison in words: ``intense complete in > 10 %``."""
    limit = limits.of_compare(compare)
    if compare.cluster:
        return f"{compare.name} {compare.op} {int(limit)} cells"
    floor = " (noise floor)" if compare.limit is None else ""
    return f"{compare.name} in {compare.op} {percent(limit)}{floor}"


def rule_words(rule_set: RuleSet, index: int, mix: Mix, limits: Limits) -> str:
    """Return the rule that fired in words, with the alternative that held."""
    says = rule_set.rules[index].says
    if says:
        return says.replace("{floor}", percent(limits.floor))
    condition = rule_set.conditions[index]
    for clause in condition:
        if mix.fulfils((clause,), limits)[0]:
            return " and ".join(compare_words(c, limits) for c in clause)
    return "no rule above holds"


def decision_trace(rule_set: RuleSet, index: int, mix: Mix, limits: Limits) -> list[str]:
    """Return the comparisons up to the rule that fired, one line a rule.

    Parameters
    ----------
    rule_set : RuleSet
        The guideline.
    index : int
        The rule that fired.
    mix : Mix
        One mix.
    limits : Limits
        Noise floor and cluster size.
    """
    lines = [
        f"{rule_set.title}: {int(mix.totals[0])} tumour cells, noise floor {percent(limits.floor)}"
    ]
    for i in range(index + 1):
        lines.append(_line(rule_set, i, mix, limits, fired=i == index))
    return lines


def _line(rule_set: RuleSet, i: int, mix: Mix, limits: Limits, fired: bool) -> str:
    rule, condition = rule_set.rules[i], rule_set.conditions[i]
    answer = f"yes, so {rule.score}" if fired else "no"
    if not condition:
        return f"{i + 1}. no rule above holds, so {rule.score}"
    return f"{i + 1}. {rule.score} if {_asked(condition, mix, limits)}: {answer}"


def _asked(condition: Condition, mix: Mix, limits: Limits) -> str:
    clauses = (
        " and ".join(f"{compare_words(c, limits)} [{_found(c, mix)}]" for c in clause)
        for clause in condition
    )
    return " or ".join(clauses)


def _found(compare: Compare, mix: Mix) -> str:
    amount, total = int(mix.amount(compare)[0]), int(mix.totals[0])
    return f"{amount} cells" if compare.cluster else f"{amount} of {total}, {amount / total:.2%}"
