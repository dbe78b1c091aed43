"""From draws to probabilities, intervals, distances and the two flags."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from her2path.core.schema import SCORES
from her2path.core.settings import Settings
from her2path.scoring.guidelines import Mix, RuleSet, category_of, rule_indices
from her2path.scoring.guidelines.mix import Limits
from her2path.scoring.uncertainty.draws import Draws, compared, quantities, wilson_levels
from her2path.scoring.uncertainty.model import REFLEX_AT, SECOND_LOOK_FLAGS, Distance, Uncertainty

__all__ = ["summarise"]

#: fewer independent parts are said to be few
FEW_PARTS = 6.0
SUBSTATES = ("null", "ultralow")


def summarise(draws: Draws, rules: RuleSet, settings: Settings) -> Uncertainty:
    """Sum up the draws under a rule set."""
    fired = rule_indices(rules, Mix(draws.counts, draws.clusters), settings.score)
    read = int(_nominal(draws, rules, settings))
    by_score = _shares((rules.rules[i].score for i in fired), SCORES)
    categories = [category_of(rule, rules)[0] for rule in rules.rules]
    by_category = _shares((categories[i] for i in fired), sorted(set(categories)))
    equivocal = categories[read] == "equivocal"
    reasons = _second_look(rules, read, draws, by_score, settings)
    found = draws.spreads[draws.decisive]
    weights = quantities(rules)
    return Uncertainty(
        probability=by_score,
        substate_probability=_shares((rules.rules[i].substate for i in fired), SUBSTATES),
        category_probability=by_category,
        intervals={name: _interval(draws, name, w) for name, w in weights.items()},
        distances=_distances(draws, rules, settings, weights),
        reflex_ish=equivocal or by_category.get("equivocal", 0.0) >= REFLEX_AT,
        second_look=bool(reasons),
        second_look_reasons=tuple(reasons),
        effective_cells={n: draws.spreads[n].cells for n in weights},
        reach_um=found.reach * draws.pitch_um,
        block_um=draws.block_um,
        blocks=draws.blocks,
        independent_parts=found.parts,
        draws=len(draws.counts),
        cutoffs_relative_error=draws.relative_error,
        few_parts=found.parts < FEW_PARTS,
    )


def _nominal(draws: Draws, rules: RuleSet, settings: Settings) -> int:
    clusters = None if draws.largest is None else draws.largest[None]
    return int(rule_indices(rules, Mix(draws.nominal[None], clusters), settings.score)[0])


def _shares(values: Iterable[str | None], names: Iterable[str]) -> dict[str, float]:
    found = list(values)
    return {name: found.count(name) / len(found) for name in names}


def _interval(draws: Draws, name: str, weights: np.ndarray) -> tuple[float, float]:
    # the levels stand in the middle of their strata, as Hazen's positions do
    values = wilson_levels(draws, name, weights)
    low, high = np.quantile(values, (0.025, 0.975), method="hazen")
    scale = 300.0 if name == "h_score" else 1.0
    return float(low) * scale, float(high) * scale


def _distances(
    draws: Draws, rules: RuleSet, settings: Settings, weights: dict[str, np.ndarray]
) -> tuple[Distance, ...]:
    limits, out = Limits.of(settings.score), []
    total = int(draws.nominal.sum())
    for compare in compared(rules):
        limit = float(limits.of_compare(compare))
        low, high = _interval(draws, compare.name, weights[compare.name])
        value = float(draws.nominal @ weights[compare.name]) / total
        holds = Mix(draws.counts).holds(compare, limits)
        out.append(
            Distance(
                name=compare.name,
                op=compare.op,
                limit=limit,
                value=value,
                distance=value - limit,
                low=low - limit,
                high=high - limit,
                probability=float(holds.mean()),
            )
        )
    return tuple(out)


def _second_look(
    rules: RuleSet, read: int, draws: Draws, by_score: dict[str, float], settings: Settings
) -> list[str]:
    """Return why a second look is due; an empty list where it is not."""
    rule, reasons = rules.rules[read], []
    if by_score[rule.score] < settings.score.second_look_at:
        reasons.append(
            f"the probability of {rule.score} is {by_score[rule.score]:.2f}, "
            f"below {settings.score.second_look_at:g}"
        )
    mix = Mix(draws.nominal[None], None if draws.largest is None else draws.largest[None])
    limits = Limits.of(settings.score)
    for flag, condition in zip(rules.flags, rules.flag_conditions, strict=True):
        asks = flag.code in SECOND_LOOK_FLAGS and rule.score in flag.at
        if asks and mix.fulfils(condition, limits)[0]:
            reasons.append(f"flag {flag.code}")
    return reasons
