"""Labels computed again for the leakage audit, with other expressions than those that made them."""

import ibis
import ibis.expr.types as ir

from ehr_bert.cohorts.definition import OutcomeRule
from ehr_bert.cohorts.patterns import matching_codes
from ehr_bert.cohorts.record import add_columns
from ehr_bert.cohorts.source import Source

_KEY = ("patient_id", "index_date")


def mislabelled(source: Source, cohort: ir.Table, outcome: OutcomeRule) -> ir.Table:
    """Return the examples whose label contradicts the record.

    Args:
        source: The diagnosis table.
        cohort: A cohort table.
        outcome: The outcome.

    Returns:
        Distinct `patient_id` and `index_date`. For labels of visits, `index_date` is the day of the visit.
    """
    if outcome.each_visit:
        examples = _label_per_visit(cohort, outcome.name)
    else:
        examples = cohort.select(*_KEY, label=cohort[outcome.name])
    examples = examples.filter(examples.label.notnull())
    if outcome.kind == "codes":
        wrong = _wrong_code_labels(source, examples, outcome)
    elif outcome.kind == "next_visit_codes":
        wrong = _wrong_next_codes(source, examples, outcome)
    else:
        wrong = _wrong_stay_labels(source, examples, outcome)
    return wrong.select(*_KEY).distinct()


def _label_per_visit(cohort: ir.Table, task: str) -> ir.Table:
    """Return one row per visit: `patient_id`, `index_date`, on which the visit ends, and `label`."""
    labelled = cohort.filter(cohort[task].notnull())
    visits = labelled.admit_date.zip(labelled.los_days, labelled[task])
    flat = labelled.select("patient_id", visit=visits.unnest())
    admit, days, label = (flat.visit[name] for name in flat.visit.type().names)
    return flat.select("patient_id", index_date=(admit + days.as_interval("D")).cast("date"), label=label)


def _wrong_code_labels(source: Source, examples: ir.Table, outcome: OutcomeRule) -> ir.Table:
    """Return cases without a code of the outcome in the follow-up, and controls with one."""
    rows = source.rows_of(matching_codes(outcome.codes, source.codes))
    coded = examples.join(rows.select("patient_id", "discharge_date"), "patient_id")
    days = coded.discharge_date.delta(coded.index_date, unit="day")
    in_follow_up = days > outcome.gap_days
    if outcome.follow_up_days is not None:
        in_follow_up &= days <= outcome.follow_up_days
    cases = examples.semi_join(coded.filter(in_follow_up), _KEY)
    controls = examples.anti_join(coded.filter(in_follow_up), _KEY)
    return ibis.union(cases.filter(cases.label != 1), controls.filter(controls.label != 0))


def _wrong_stay_labels(source: Source, examples: ir.Table, outcome: OutcomeRule) -> ir.Table:
    """Return examples whose next stay gives another label."""
    stays = add_columns(examples, _next_visits(source, examples, outcome.min_stay_days), *_KEY)
    days_until = stays.begin.delta(stays.index_date, unit="day")
    if outcome.kind == "readmission":
        is_case = (days_until <= outcome.follow_up_days).fill_null(False)
        is_open = (days_until < 0).fill_null(False)
        return stays.filter((stays.label != is_case.cast("int32")) | is_open)
    days = stays.end.delta(stays.begin, unit="day")
    expected = days > outcome.threshold_days if outcome.kind == "prolonged_stay" else days
    differs = (days_until < 0) | (stays.label != expected.cast(stays.label.type()))
    if outcome.follow_up_days is not None:
        differs |= days_until > outcome.follow_up_days
    return stays.filter(differs.fill_null(True))


def _wrong_next_codes(source: Source, examples: ir.Table, outcome: OutcomeRule) -> ir.Table:
    """Return examples whose next visit has other codes, or that have no next visit."""
    visits = _next_visits(source, examples, 0)
    codes = source.rows_of(matching_codes(outcome.codes or ("*",), source.codes))
    rows = source.roll_up(codes).select("patient_id", "code", end="discharge_date")
    recorded = visits.join(rows, ("patient_id", "end")).select(*_KEY, "code")
    labelled = examples.select(*_KEY, code=examples.label.unnest())
    by_code = (*_KEY, "code")
    differing = (labelled.anti_join(recorded, by_code), recorded.anti_join(labelled, by_code))
    without_visit = examples.anti_join(visits, _KEY)
    return ibis.union(*(rows.select(*_KEY) for rows in (*differing, without_visit)))


def _next_visits(source: Source, examples: ir.Table, min_days: int) -> ir.Table:
    """Return, of the visits of a minimum length that end after the index date, the one that begins first.

    The columns are `patient_id`, `index_date`, `begin` and `end`.
    """
    rows = source.usable.rows
    visits = rows.group_by("patient_id", "discharge_date").aggregate(admit_date=rows.admit_date.min())
    long_enough = visits.filter(visits.discharge_date.delta(visits.admit_date, unit="day") >= min_days)
    later = examples.select(*_KEY).join(long_enough, "patient_id")
    later = later.filter(later.discharge_date > later.index_date)
    begins = later.group_by(*_KEY).aggregate(begin=later.admit_date.min())
    ends = later.select(*_KEY, "discharge_date", begin="admit_date")
    first = begins.join(ends, (*_KEY, "begin"))
    return first.group_by(*_KEY, "begin").aggregate(end=first.discharge_date.min())
