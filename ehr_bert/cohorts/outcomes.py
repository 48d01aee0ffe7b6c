"""What came after the index date: the labels of a task, and which examples have none."""

from dataclasses import dataclass, replace
from datetime import date

import ibis
import ibis.expr.types as ir
from ibis.expr.datatypes import DataType

from ehr_bert.cohorts.definition import OutcomeRule
from ehr_bert.cohorts.record import Record, attached
from ehr_bert.cohorts.rules import CohortRule, passed
from ehr_bert.schemas import TASK_COLUMNS

_KEY = ("patient_id", "index_date")
_EPOCH = date.min
_UNKNOWN = 2
"""Stands for no label beside the labels 0 and 1."""


@dataclass(frozen=True)
class OutcomeLabels:
    """The labels of a task.

    Attributes:
        table: `patient_id`, `index_date`; `passed`, as `rules.passed`; `label`, null unless all rules hold.
        rules: What they are called.
    """

    table: ir.Table
    rules: tuple[str, ...]


def labels(
    record: Record, examples: ir.Table, outcome: OutcomeRule, codes: str, code_rows: ir.Table | None
) -> OutcomeLabels:
    """The labels of some examples.

    Args:
        record: With the set `codes`.
        examples: `patient_id`, `index_date`, once each, and `observed_until`.
        outcome: What is asked.
        codes: Name of the set of the outcome's codes.
        code_rows: For `next_visit_codes`, the codes asked for: `patient_id`, `discharge_date`, `code`.
    """
    if outcome.each_visit:
        return _of_each_visit(record, examples, outcome)
    if outcome.kind == "codes":
        return _of_codes(record, examples, outcome, codes)
    asked = _with_next_stay(record, examples, outcome.min_stay_days if code_rows is None else 0)
    if outcome.kind == "readmission":
        return _readmission(asked, outcome)
    if code_rows is not None:
        return _next_codes(asked, outcome, code_rows)
    stay = asked.next_los_days
    label = stay > outcome.threshold_days if outcome.kind == "prolonged_stay" else stay
    return _labels(asked, _next_rules(asked, outcome, "stay"), label, outcome)


def _of_codes(record: Record, examples: ir.Table, outcome: OutcomeRule, codes: str) -> OutcomeLabels:
    """Whether a visit with one of the codes comes."""
    held = record.visits.filter(record.visits[codes]).select("patient_id", "discharge_date")
    seen = examples.left_join(held, "patient_id")
    days = seen.discharge_date.delta(seen.index_date, unit="day")
    earlier = days <= 0
    if outcome.washout_days is not None:
        earlier &= days > -outcome.washout_days
    asked = seen.group_by(*examples.columns).aggregate(
        held=days.count(),
        has_earlier=earlier.fill_null(False).any(),
        onset=ibis.ifelse(days > 0, days, ibis.null("int64")).min(),
    )
    asked = attached(asked, _later_visits(record, examples, outcome.gap_days), *_KEY)
    window = f" in the last {outcome.washout_days} days" if outcome.washout_days else ""
    rules: list[CohortRule] = [(f"no outcome{window} up to the index date", ~asked.has_earlier)]
    if outcome.gap_days:
        after_gap = asked.onset.isnull() | (asked.onset > outcome.gap_days)
        rules.append((f"no outcome within {outcome.gap_days} days after it", after_gap))
    if outcome.visits > 1:
        enough = (asked.held >= outcome.visits) | (asked.held == 0)
        rules.append((f"the outcome at {outcome.visits} visits, or at none", enough))
    is_case = asked.onset.notnull()
    if outcome.follow_up_days is not None:
        is_case &= (asked.onset <= outcome.follow_up_days).fill_null(False)
        watched = is_case | (_days_watched(asked) >= outcome.follow_up_days)
        rules.append((f"without the outcome, watched for {outcome.follow_up_days} days", watched))
    if outcome.later_visits:
        comes_back = is_case | (asked.later_visits >= outcome.later_visits)
        rules.append((f"without the outcome, later visits: {outcome.later_visits}", comes_back))
    return _labels(asked, rules, is_case, outcome)


def _readmission(asked: ir.Table, outcome: OutcomeRule) -> OutcomeLabels:
    """Whether a stay begins soon."""
    days = asked.next_days
    watched = days.notnull() | (_days_watched(asked) >= outcome.follow_up_days)
    rules = [
        ("no other stay at the time", days.isnull() | (days >= 0)),
        (f"watched for {outcome.follow_up_days} days, or back", watched),
    ]
    return _labels(asked, rules, (days <= outcome.follow_up_days).fill_null(False), outcome)


def _next_codes(asked: ir.Table, outcome: OutcomeRule, code_rows: ir.Table) -> OutcomeLabels:
    """Which codes the next visit has."""
    given = code_rows.select("patient_id", "code", next_discharge="discharge_date").distinct()
    joined = asked.join(given, ("patient_id", "next_discharge"))
    lists = joined.group_by(*_KEY).aggregate(codes=joined.code.collect())
    asked = attached(asked, lists, *_KEY)
    none = ibis.literal([], "array<string>")
    label = ibis.coalesce(asked.codes.sort(), none)
    return _labels(asked, _next_rules(asked, outcome, "visit"), label, outcome)


def _next_rules(asked: ir.Table, outcome: OutcomeRule, noun: str) -> list[CohortRule]:
    rules = [(f"a {noun} comes, and none is open", (asked.next_days >= 0).fill_null(False))]
    if outcome.follow_up_days is not None:
        in_time = asked.next_days <= outcome.follow_up_days
        rules.append((f"within {outcome.follow_up_days} days", in_time))
    return rules


def _of_each_visit(record: Record, examples: ir.Table, outcome: OutcomeRule) -> OutcomeLabels:
    """The labels of each visit of the histories, by discharge, as lists; null for a visit without one."""
    visits = record.visits.semi_join(examples, "patient_id").select("patient_id", index_date="discharge_date")
    watched = record.patients.select("patient_id", "observed_until")
    once = replace(outcome, each_visit=False)
    answers = labels(record, attached(visits, watched, "patient_id"), once, "", None).table
    told = answers.select("patient_id", visit_date="index_date", told=answers.label.fill_null(_UNKNOWN))
    seen = examples.join(told, "patient_id")
    seen = seen.filter(seen.visit_date <= seen.index_date)
    # The day before the label, in one integer: sorting it sorts by day on every engine.
    day = seen.visit_date.delta(ibis.literal(_EPOCH), unit="day").cast("int64")
    lists = seen.group_by(*_KEY).aggregate(
        days=(day * 4 + seen.told).collect(), known=(seen.told < _UNKNOWN).cast("int64").sum()
    )
    asked = attached(examples, lists, *_KEY)
    label = asked.days.sort().map(
        lambda number: ibis.ifelse(number % 4 == _UNKNOWN, ibis.null("int32"), (number % 4).cast("int32"))
    )
    return _labels(asked, [("an answer at a visit", asked.known > 0)], label, outcome)


def _with_next_stay(record: Record, examples: ir.Table, min_stay_days: int) -> ir.Table:
    """Adds the stay that ends later and begins first: `next_discharge`, `next_days` until it begins, below 0
    where it is open, and `next_los_days`.
    """
    stays = record.visits.filter(record.visits.los_days >= min_stay_days)
    later = examples.select(*_KEY).join(
        stays.select("patient_id", "admit_date", "los_days", next_discharge="discharge_date"), "patient_id"
    )
    later = later.filter(later.next_discharge > later.index_date)
    in_order = ibis.window(
        group_by=[later.patient_id, later.index_date], order_by=[later.admit_date, later.next_discharge]
    )
    placed = later.mutate(place=ibis.row_number().over(in_order))
    following = placed.filter(placed.place == 0)
    return attached(
        examples,
        following.select(
            *_KEY,
            "next_discharge",
            next_days=following.admit_date.delta(following.index_date, unit="day"),
            next_los_days="los_days",
        ),
        *_KEY,
    )


def _later_visits(record: Record, examples: ir.Table, gap_days: int) -> ir.Table:
    """How many visits end more than `gap_days` after the index date."""
    seen = examples.select(*_KEY).join(record.visits.select("patient_id", "discharge_date"), "patient_id")
    later = seen.discharge_date.delta(seen.index_date, unit="day") > gap_days
    return seen.group_by(*_KEY).aggregate(later_visits=later.cast("int64").sum())


def _days_watched(asked: ir.Table) -> ir.IntegerValue:
    return asked.observed_until.delta(asked.index_date, unit="day")


def _labels(asked: ir.Table, rules: list[CohortRule], label: ir.Value, outcome: OutcomeRule) -> OutcomeLabels:
    told_as = DataType.from_pyarrow(TASK_COLUMNS[outcome.task_kind])
    told = asked.select(*_KEY, passed=passed(rules), told=label.cast(told_as))
    known = ibis.ifelse(told.passed == len(rules), told.told, ibis.null(told_as))
    return OutcomeLabels(told.select(*_KEY, "passed", label=known), tuple(name for name, _ in rules))
