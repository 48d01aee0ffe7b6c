"""Outcomes after the index date: the labels of a task, and the examples without a label."""

from dataclasses import dataclass, replace
from datetime import date

import ibis
import ibis.expr.types as ir
from ibis.expr.datatypes import DataType

from ehr_bert.cohorts.definition import OutcomeRule
from ehr_bert.cohorts.record import Record, add_columns
from ehr_bert.cohorts.rules import CohortRule, rules_passed
from ehr_bert.schemas import TASK_COLUMNS

_KEY = ("patient_id", "index_date")
_EPOCH = date.min
_UNKNOWN = 2
"""Encodes a missing label, next to the labels 0 and 1."""


@dataclass(frozen=True)
class OutcomeLabels:
    """The labels of a task.

    Attributes:
        table: `patient_id`, `index_date`; `passed`, as `rules_passed` returns it; `label`, null unless all
            rules hold.
        rules: Names of the rules.
    """

    table: ir.Table
    rules: tuple[str, ...]


def outcome_labels(
    record: Record, examples: ir.Table, outcome: OutcomeRule, codes: str, code_rows: ir.Table | None
) -> OutcomeLabels:
    """Return the labels of examples.

    Args:
        record: Patients and visits, with the code set `codes`.
        examples: Distinct `patient_id` and `index_date`, and `observed_until`.
        outcome: The outcome.
        codes: Name of the code set of the outcome.
        code_rows: The codes to predict, for `next_visit_codes`: `patient_id`, `discharge_date`, `code`.
    """
    if outcome.each_visit:
        return _each_visit_labels(record, examples, outcome)
    if outcome.kind == "codes":
        return _code_labels(record, examples, outcome, codes)
    followed = _add_next_stay(record, examples, outcome.min_stay_days if code_rows is None else 0)
    if outcome.kind == "readmission":
        return _readmission_labels(followed, outcome)
    if code_rows is not None:
        return _next_code_labels(followed, outcome, code_rows)
    stay = followed.next_los_days
    label = stay > outcome.threshold_days if outcome.kind == "prolonged_stay" else stay
    return _labels(followed, _next_rules(followed, outcome, "stay"), label, outcome)


def _code_labels(record: Record, examples: ir.Table, outcome: OutcomeRule, codes: str) -> OutcomeLabels:
    """Label whether a later visit has one of the codes."""
    coded = record.visits.filter(record.visits[codes]).select("patient_id", "discharge_date")
    joined = examples.left_join(coded, "patient_id")
    days = joined.discharge_date.delta(joined.index_date, unit="day")
    is_earlier = days <= 0
    if outcome.washout_days is not None:
        is_earlier &= days > -outcome.washout_days
    followed = joined.group_by(*examples.columns).aggregate(
        coded_visits=days.count(),
        has_earlier=is_earlier.fill_null(False).any(),
        onset=ibis.ifelse(days > 0, days, ibis.null("int64")).min(),
    )
    followed = add_columns(followed, _later_visits(record, examples, outcome.gap_days), *_KEY)
    window = f"in the {outcome.washout_days} days up to" if outcome.washout_days else "up to"
    rules: list[CohortRule] = [(f"no outcome {window} the index date", ~followed.has_earlier)]
    if outcome.gap_days:
        after_gap = followed.onset.isnull() | (followed.onset > outcome.gap_days)
        rules.append((f"no outcome within {outcome.gap_days} days after the index date", after_gap))
    if outcome.visits > 1:
        is_confirmed = (followed.coded_visits >= outcome.visits) | (followed.coded_visits == 0)
        rules.append((f"outcome at {outcome.visits} or more visits, or at none", is_confirmed))
    is_case = followed.onset.notnull()
    if outcome.follow_up_days is not None:
        is_case &= (followed.onset <= outcome.follow_up_days).fill_null(False)
        is_observed = is_case | (_days_observed(followed) >= outcome.follow_up_days)
        rules.append((f"case, or control observed for {outcome.follow_up_days} days", is_observed))
    if outcome.later_visits:
        has_later_visits = is_case | (followed.later_visits >= outcome.later_visits)
        visits = f"{outcome.later_visits} later visit{'' if outcome.later_visits == 1 else 's'}"
        rules.append((f"case, or control with {visits}", has_later_visits))
    return _labels(followed, rules, is_case, outcome)


def _readmission_labels(followed: ir.Table, outcome: OutcomeRule) -> OutcomeLabels:
    """Label whether a stay begins within the follow-up."""
    days = followed.next_days
    is_observed = days.notnull() | (_days_observed(followed) >= outcome.follow_up_days)
    rules = [
        ("no other stay on the index date", days.isnull() | (days >= 0)),
        (f"readmitted, or observed for {outcome.follow_up_days} days", is_observed),
    ]
    return _labels(followed, rules, (days <= outcome.follow_up_days).fill_null(False), outcome)


def _next_code_labels(followed: ir.Table, outcome: OutcomeRule, code_rows: ir.Table) -> OutcomeLabels:
    """Label the codes of the next visit."""
    by_visit = code_rows.select("patient_id", "code", next_discharge="discharge_date").distinct()
    joined = followed.join(by_visit, ("patient_id", "next_discharge"))
    lists = joined.group_by(*_KEY).aggregate(codes=joined.code.collect())
    followed = add_columns(followed, lists, *_KEY)
    no_codes = ibis.literal([], "array<string>")
    label = ibis.coalesce(followed.codes.sort(), no_codes)
    return _labels(followed, _next_rules(followed, outcome, "visit"), label, outcome)


def _next_rules(followed: ir.Table, outcome: OutcomeRule, noun: str) -> list[CohortRule]:
    rules = [
        (f"a next {noun}, none open on the index date", (followed.next_days >= 0).fill_null(False)),
    ]
    if outcome.follow_up_days is not None:
        is_in_time = followed.next_days <= outcome.follow_up_days
        rules.append((f"next {noun} within {outcome.follow_up_days} days", is_in_time))
    return rules


def _each_visit_labels(record: Record, examples: ir.Table, outcome: OutcomeRule) -> OutcomeLabels:
    """Label each visit of the histories, in order of discharge, as lists; null for a visit without a
    label.
    """
    visits = record.visits.semi_join(examples, "patient_id").select("patient_id", index_date="discharge_date")
    observed = record.patients.select("patient_id", "observed_until")
    per_visit = outcome_labels(
        record, add_columns(visits, observed, "patient_id"), replace(outcome, each_visit=False), "", None
    ).table
    encoded = per_visit.select(
        "patient_id", visit_date="index_date", label=per_visit.label.fill_null(_UNKNOWN)
    )
    joined = examples.join(encoded, "patient_id")
    joined = joined.filter(joined.visit_date <= joined.index_date)
    # Day and label share one integer, day first, so that sorting is by day on every engine.
    day = joined.visit_date.delta(ibis.literal(_EPOCH), unit="day").cast("int64")
    lists = joined.group_by(*_KEY).aggregate(
        days=(day * 4 + joined.label).collect(), known=(joined.label < _UNKNOWN).cast("int64").sum()
    )
    labelled = add_columns(examples, lists, *_KEY)
    label = labelled.days.sort().map(
        lambda number: ibis.ifelse(number % 4 == _UNKNOWN, ibis.null("int32"), (number % 4).cast("int32"))
    )
    return _labels(labelled, [("at least one labelled visit", labelled.known > 0)], label, outcome)


def _add_next_stay(record: Record, examples: ir.Table, min_stay_days: int) -> ir.Table:
    """Add the next stay: of those that end after the index date, the one that begins first.

    The columns are `next_discharge`, `next_days` until it begins, negative if it is open on the index date,
    and `next_los_days`.
    """
    stays = record.visits.filter(record.visits.los_days >= min_stay_days)
    later = examples.select(*_KEY).join(
        stays.select("patient_id", "admit_date", "los_days", next_discharge="discharge_date"), "patient_id"
    )
    later = later.filter(later.next_discharge > later.index_date)
    in_order = ibis.window(
        group_by=[later.patient_id, later.index_date], order_by=[later.admit_date, later.next_discharge]
    )
    ranked = later.mutate(position=ibis.row_number().over(in_order))
    following = ranked.filter(ranked.position == 0)
    return add_columns(
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
    """Count the visits that end more than `gap_days` after the index date."""
    joined = examples.select(*_KEY).join(record.visits.select("patient_id", "discharge_date"), "patient_id")
    is_later = joined.discharge_date.delta(joined.index_date, unit="day") > gap_days
    return joined.group_by(*_KEY).aggregate(later_visits=is_later.cast("int64").sum())


def _days_observed(examples: ir.Table) -> ir.IntegerValue:
    return examples.observed_until.delta(examples.index_date, unit="day")


def _labels(
    examples: ir.Table, rules: list[CohortRule], label: ir.Value, outcome: OutcomeRule
) -> OutcomeLabels:
    label_type = DataType.from_pyarrow(TASK_COLUMNS[outcome.task_kind])
    labelled = examples.select(*_KEY, passed=rules_passed(rules), unchecked=label.cast(label_type))
    checked = ibis.ifelse(labelled.passed == len(rules), labelled.unchecked, ibis.null(label_type))
    return OutcomeLabels(labelled.select(*_KEY, "passed", label=checked), tuple(name for name, _ in rules))
