"""Every number of the report's tables as JSON, for documents that quote them; what is not known is null."""

import math
from collections.abc import Mapping
from typing import Any

from fedcmp.report.methods import Metric
from fedcmp.report.study.claims import claims
from fedcmp.report.study.comparing import OURS, Comparison, corrected
from fedcmp.report.study.distances import distances
from fedcmp.report.study.maps import heterogeneity
from fedcmp.report.study.metrics import CLAIMS, TABLE_METRICS, TESTED
from fedcmp.report.study.results import Results
from fedcmp.report.study.statistics import Estimate, PairedDifference
from fedcmp.report.study.trajectories import CURVES, oscillations, trajectory
from fedcmp.report.study.tuning import best_loss

FORMAT = 1


def study_numbers(results: Results) -> dict[str, Any]:
    """Gather the numbers.

    Returns:
        {"format", "study", "scenarios": {name: ..}, "ablations": {table: {scenario: ..}}, "heterogeneity": {..},
        "tuning": {..}}; an estimate is {"mean", "standard_error", "seeds"}, without an error where there is one seed.
    """
    study = results.study
    return {
        "format": FORMAT,
        "study": study.name,
        "scenarios": {one.scenario.name: _scenario(one) for one in results.comparisons},
        "ablations": {
            table: {scenario.name: _methods(one, table) for scenario, one in comparisons}
            for table, comparisons in results.ablations.items()
        },
        "heterogeneity": {
            name: {measure: _estimate(found) for measure, found in heterogeneity(holdings).items()}
            for name, holdings in study.holdings.items()
            if holdings
        },
        "tuning": {
            tuning.method: {"trials": len(tuning.trials), "chosen": tuning.chosen, "caption_loss": best_loss(tuning)}
            for tuning in study.tuning
        },
    }


def _scenario(one: Comparison) -> dict[str, Any]:
    return {
        "title": one.scenario.title,
        "best": one.winner.method.name if one.winner is not None else None,
        "suites": {
            suite: {
                "informative": judged.informative,
                "centralized": _estimate(judged.centralized),
                "blind": _finite(judged.blind),
                "noise_of_difference": _finite(judged.noise),
                "judged_in": judged.scenario,
            }
            for suite, judged in one.judged.items()
        },
        "methods": _methods(one),
        "blind": _values(one.blind.values) if one.blind is not None else None,
        "chance": _values(one.blind.chance) if one.blind is not None else None,
        "distance_closed": {name: _estimate(found) for name, found in distances(one).items()},
        "claims": {
            judged.metric.key: {
                "met": judged.met,
                "ours": _estimate(judged.ours),
                "rival": judged.rival.method.name,
                "theirs": _estimate(judged.theirs),
                "difference": _difference(judged.difference),
                "beaten": judged.beaten,
                "rivals": judged.rivals,
            }
            for judged in claims(one)
        },
        "ours_against": {metric.key: _against(one, metric) for metric in dict.fromkeys((*CLAIMS, *TESTED))},
    }


def _against(one: Comparison, metric: Metric) -> dict[str, Any]:
    """Every other federated method's value minus ours, with Holm's p-value over this family."""
    ours = one.named(OURS)
    found = one.differences(ours, metric.key) if ours is not None else {}
    p_values = corrected(found)
    return {
        name: {**known, "p_holm": p_values[name]}
        for name, difference in found.items()
        if (known := _difference(difference)) is not None
    }


def _methods(one: Comparison, arms: str = "") -> dict[str, Any]:
    found = {}
    for entry in (*one.entries, *(() if arms else one.references)):
        name = entry.method.name
        numbers: dict[str, Any] = {
            metric.key: {**_estimate(estimate), "by_seed": _by_seed(one.by_seed(entry, metric.key))}
            for metric in TABLE_METRICS
            if (estimate := one.estimate(entry, metric.key)) is not None
        }
        found[name] = {
            "title": entry.method.title,
            "federated": entry.method.federated,
            "seeds": len(entry.runs),
            "p_to_best": one.p_values.get(name),
            "metrics": numbers,
        }
        if arms:
            found[name]["arms"] = dict(entry.method.arms[arms])
        else:
            found[name]["oscillation"] = {m.key: _estimate(o) for m in CURVES if (o := oscillations(entry, m))}
            found[name]["rounds"] = {m.key: curve for m in CURVES if len(curve := _curve(one, name, m)) > 1}
    return found


def _curve(one: Comparison, name: str, metric: Metric) -> dict[str, Any]:
    entry = one.named(name)
    points = trajectory(entry, metric.key) if entry is not None else {}
    return {str(round_): _estimate(estimate) for round_, estimate in points.items()}


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {"mean": _finite(estimate.mean), "standard_error": _finite(estimate.error), "seeds": estimate.count}


def _difference(difference: PairedDifference | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    return {
        "mean": _finite(difference.mean),
        "standard_error": _finite(difference.error),
        "seeds": difference.count,
        "p": _finite(difference.p),
    }


def _by_seed(values: Mapping[int, float]) -> dict[str, float | None]:
    return {str(seed): _finite(value) for seed, value in values.items()}


def _values(values: Mapping[str, float]) -> dict[str, float | None]:
    return {key: _finite(value) for key, value in values.items()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
