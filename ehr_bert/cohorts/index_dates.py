"""Index dates: the day on which the history of an example ends."""

from datetime import date

import ibis
import ibis.expr.types as ir

from ehr_bert.cohorts.definition import Index, Population
from ehr_bert.cohorts.record import Record
from ehr_bert.splits import patient_hash

POPULATION, INDEX = "in_population", "in_index"
"""Names of the code sets of the population and of the index date."""


def population_dates(record: Record, population: Population) -> ir.Table:
    """Return when patients enter the population: `patient_id`, `population_start`, `population_date`.

    `population_start` is the first visit with one of the population's codes, and `population_date` the day on
    which the rule is met. Patients who never enter it have no row.
    """
    visits = record.visits.filter(record.visits[POPULATION])
    in_order = ibis.window(group_by=visits.patient_id, order_by=visits.discharge_date)
    numbered = visits.select(
        "patient_id",
        "discharge_date",
        number=ibis.row_number().over(in_order) + 1,
        since=visits.discharge_date.lag(population.visits - 1).over(in_order),
    )
    is_met = numbered.number >= population.visits
    if population.within_days is not None:
        is_met &= numbered.discharge_date.delta(numbered.since, unit="day") <= population.within_days
    entry = ibis.ifelse(is_met, numbered.discharge_date, ibis.null("date"))
    dates = numbered.group_by("patient_id").aggregate(
        population_start=numbered.discharge_date.min(), population_date=entry.min()
    )
    return dates.filter(dates.population_date.notnull())


def index_dates(
    record: Record, index: Index, entries: ir.Table | None, outcome: str, gap_days: int
) -> ir.Table:
    """Return the index dates: distinct `patient_id` and `index_date`.

    Args:
        record: Patients and visits, with the code set `INDEX` if `index` has codes.
        index: The rule for the index date.
        entries: The result of `population_dates`, if the definition has a population.
        outcome: Name of the code set of the first outcome, for `before_outcome`.
        gap_days: Gap of that outcome in days.
    """
    if index.kind == "first_code":
        if entries is not None and not index.codes:
            return entries.select("patient_id", index_date="population_date")
        visits = record.visits.filter(record.visits[INDEX])
        return visits.group_by("patient_id").aggregate(index_date=visits.discharge_date.min())
    if index.kind == "date":
        day = ibis.literal(date.fromisoformat(index.date or ""))
        return record.patients.select("patient_id", index_date=day)
    if index.kind == "before_outcome":
        return _before_outcome(record, outcome, gap_days)
    stays = record.visits.filter(record.visits.los_days >= index.min_stay_days)
    if index.kind == "nth_visit":
        in_order = ibis.window(group_by=stays.patient_id, order_by=stays.discharge_date)
        stays = stays.mutate(number=ibis.row_number().over(in_order) + 1)
        stays = stays.filter(stays.number == index.visit)
    if index.max_per_patient is not None:
        key = stays.patient_id + " " + stays.discharge_date.cast("string")
        by_hash = ibis.window(group_by=stays.patient_id, order_by=patient_hash(key, "index date", 0))
        stays = stays.mutate(position=ibis.row_number().over(by_hash))
        stays = stays.filter(stays.position < index.max_per_patient)
    return stays.select("patient_id", index_date="discharge_date")


def _before_outcome(record: Record, outcome: str, gap_days: int) -> ir.Table:
    """Return the last discharge more than `gap_days` before the first outcome, or else before the last
    visit.
    """
    visits = record.visits
    onset = ibis.ifelse(visits[outcome], visits.discharge_date, ibis.null("date"))
    events = visits.group_by("patient_id").aggregate(
        event=ibis.coalesce(onset.min(), visits.discharge_date.max())
    )
    dated = visits.join(events, "patient_id")
    earlier = dated.filter(dated.event.delta(dated.discharge_date, unit="day") > gap_days)
    return earlier.group_by("patient_id").aggregate(index_date=earlier.discharge_date.max())
