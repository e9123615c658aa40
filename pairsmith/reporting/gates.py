"""Quality gates: the bounds that a data set must keep to be published."""

from __future__ import annotations

from pairsmith.config import Calibration, Gates
from pairsmith.errors import RunError
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.markdown import Table
from pairsmith.reporting.ratios import ratio
from pairsmith.reporting.summary import ANY, PAIRS, SCREENED, Summary
from pairsmith.storage.schemas import Reason

Measured = tuple[str, float | None, float | None, bool]  # gate, bound, value, whether the bound is a minimum


def measure(gates: Gates, summary: Summary, trust: Trust) -> list[Measured]:
    """Every gate with its bound and the measured value; None where it has no bound or cannot be measured."""
    ratings = sum(counts["ratings"] for counts in summary.aspects.values())
    nulls = sum(counts["null"] for counts in summary.aspects.values())
    bias = trust.length_bias()
    screened, found = summary.found[ANY, SCREENED], summary.found[ANY, PAIRS]
    screen: list[Measured] = [("max_found_rate", gates.max_found_rate, ratio(found, screened), False)]
    return [
        ("min_pairs", gates.min_pairs, summary.pairs, True),
        ("min_yield", gates.min_yield, ratio(summary.paired, summary.loaded), True),
        ("max_null_rate", gates.max_null_rate, ratio(nulls, ratings), False),
        ("max_tie_rate", gates.max_tie_rate, ratio(summary.prompt_reasons[Reason.TIE], summary.loaded), False),
        ("min_agreement", gates.min_agreement, trust.least_agreement(), True),
        ("max_length_bias", gates.max_length_bias, None if bias is None else abs(bias), False),
        *(screen if screened or gates.max_found_rate is not None else []),
    ]


def check_gates(gates: Gates, summary: Summary, trust: Trust) -> None:
    """Raise RunError that names each failed gate with its numbers. A gate fails where its value cannot be measured."""
    failed = []
    for name, bound, value, least in measure(gates, summary, trust):
        if fails(bound, value, least):
            failed.append(f"{name}: {_value_text(value)}, {_bound_text(bound, least)} is wanted")
    if failed:
        raise RunError(f"not published, since gates of the recipe failed: {'; '.join(failed)}")


def gates_table(gates: Gates, summary: Summary, trust: Trust, calibration: Calibration | None = None) -> Table:
    """The gates as a table for people: value, bound, and whether it is passed; without a bound, only the value.

    That of a calibration is among them, though a version that does not pass it waits and the run does not fail.
    """
    gold = [("min_gold_accuracy", gates.min_gold_accuracy, calibration.right.low, True)] if calibration else []
    rows = []
    for name, bound, value, least in (*measure(gates, summary, trust), *gold):
        wanted = _bound_text(bound, least)
        passed = "" if bound is None else "no" if fails(bound, value, least) else "yes"
        rows.append({"gate": name, "measured": _value_text(value), "wanted": wanted, "passed": passed})
    return rows


def fails(bound: float | None, value: float | None, least: bool) -> bool:
    """Whether a gate fails; one without a bound never does."""
    return bound is not None and (value is None or (value < bound if least else value > bound))


def _value_text(value: float | None) -> str:
    return "cannot be measured" if value is None else f"{value:.4g}"


def _bound_text(bound: float | None, least: bool) -> str:
    return "" if bound is None else f"{'at least' if least else 'at most'} {bound:g}"
