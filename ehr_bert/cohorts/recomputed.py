"""Labels told once more, by other expressions than those that made them: for the leakage audit."""

import ibis
import ibis.expr.types as ir

from ehr_bert.cohorts.definition import OutcomeRule
from ehr_bert.cohorts.patterns import matching_codes
from ehr_bert.cohorts.record import attached
from ehr_bert.cohorts.source import Source

_KEY = ("patient_id", "index_date")


def wrongly_labelled(source: Source, cohort: ir.Table, outcome: OutcomeRule) -> ir.Table:
    """The labels of a task that the record tells otherwise.

    Args:
        source: The diagnosis table.
        cohort: A cohort table.
        outcome: The task.

    Returns:
        `patient_id`, `index_date`, once each; of labels of visits the visit's day in place of the latter.
    """
    if outcome.each_visit:
        asked = _of_visits(cohort, outcome.name)
    else:
        asked = cohort.select(*_KEY, told=cohort[outcome.name])
    asked = asked.filter(asked.told.notnull())
    if outcome.kind == "codes":
        wrong = _without_codes(source, asked, outcome)
    elif outcome.kind == "next_visit_codes":
        wrong = _with_other_codes(source, asked, outcome)
    else:
        wrong = _with_another_stay(source, asked, outcome)
    return wrong.select(*_KEY).distinct()


def _of_visits(cohort: ir.Table, task: str) -> ir.Table:
    """A row a visit and label: `patient_id`, `index_date`, on which the visit ends, and `told`."""
    labelled = cohort.filter(cohort[task].notnull())
    visits = labelled.admit_date.zip(labelled.los_days, labelled[task])
    flat = labelled.select("patient_id", visit=visits.unnest())
    admit, days, told = (flat.visit[name] for name in flat.visit.type().names)
    return flat.select("patient_id", index_date=(admit + days.as_interval("D")).cast("date"), told=told)


def _without_codes(source: Source, asked: ir.Table, outcome: OutcomeRule) -> ir.Table:
    """Those with the outcome in whose time none of its codes is recorded, and the reverse."""
    rows = source.rows_of(matching_codes(outcome.codes, source.codes))
    seen = asked.join(rows.select("patient_id", "discharge_date"), "patient_id")
    days = seen.discharge_date.delta(seen.index_date, unit="day")
    in_time = days > outcome.gap_days
    if outcome.follow_up_days is not None:
        in_time &= days <= outcome.follow_up_days
    cases = asked.semi_join(seen.filter(in_time), _KEY)
    controls = asked.anti_join(seen.filter(in_time), _KEY)
    return ibis.union(cases.filter(cases.told != 1), controls.filter(controls.told != 0))


def _with_another_stay(source: Source, asked: ir.Table, outcome: OutcomeRule) -> ir.Table:
    """Those whose next stay answers otherwise."""
    stays = attached(asked, _next_visits(source, asked, outcome.min_stay_days), *_KEY)
    days_until = stays.begin.delta(stays.index_date, unit="day")
    if outcome.kind == "readmission":
        comes = (days_until <= outcome.follow_up_days).fill_null(False)
        is_open = (days_until < 0).fill_null(False)
        return stays.filter((stays.told != comes.cast("int32")) | is_open)
    days = stays.end.delta(stays.begin, unit="day")
    answer = days > outcome.threshold_days if outcome.kind == "prolonged_stay" else days
    differs = (days_until < 0) | (stays.told != answer.cast(stays.told.type()))
    if outcome.follow_up_days is not None:
        differs |= days_until > outcome.follow_up_days
    return stays.filter(differs.fill_null(True))


def _with_other_codes(source: Source, asked: ir.Table, outcome: OutcomeRule) -> ir.Table:
    """Those whose next visit has other codes, or who have none."""
    visits = _next_visits(source, asked, 0)
    codes = source.rows_of(matching_codes(outcome.codes or ("*",), source.codes))
    rows = source.rolled_up(codes).select("patient_id", "code", end="discharge_date")
    recorded = visits.join(rows, ("patient_id", "end")).select(*_KEY, "code")
    told = asked.select(*_KEY, code=asked.told.unnest())
    by_code = (*_KEY, "code")
    differing = (told.anti_join(recorded, by_code), recorded.anti_join(told, by_code))
    alone = asked.anti_join(visits, _KEY)
    return ibis.union(*(each.select(*_KEY) for each in (*differing, alone)))


def _next_visits(source: Source, asked: ir.Table, min_days: int) -> ir.Table:
    """Of visits of so many days that end after the index date, the one that begins first: `begin`, `end`."""
    rows = source.read.rows
    visits = rows.group_by("patient_id", "discharge_date").aggregate(admit_date=rows.admit_date.min())
    long_enough = visits.filter(visits.discharge_date.delta(visits.admit_date, unit="day") >= min_days)
    later = asked.select(*_KEY).join(long_enough, "patient_id")
    later = later.filter(later.discharge_date > later.index_date)
    begins = later.group_by(*_KEY).aggregate(begin=later.admit_date.min())
    ends = later.select(*_KEY, "discharge_date", begin="admit_date")
    first = begins.join(ends, (*_KEY, "begin"))
    return first.group_by(*_KEY, "begin").aggregate(end=first.discharge_date.min())
