"""The days from which one looks ahead."""

from datetime import date

import ibis
import ibis.expr.types as ir

from ehr_bert.cohorts.definition import Index, Population
from ehr_bert.cohorts.record import Record
from ehr_bert.splits import patient_hash

POPULATION, INDEX = "in_population", "in_index"
"""Names of the sets of codes by which patients join the population, and of those that set the index date."""


def population_dates(record: Record, population: Population) -> ir.Table:
    """When patients join the population: `patient_id`, `population_start`, `population_date`.

    They start with their first visit that holds one of its codes, and join, `population_date`, on the day on
    which the rule holds; who never does has no row.
    """
    visits = record.visits.filter(record.visits[POPULATION])
    in_order = ibis.window(group_by=visits.patient_id, order_by=visits.discharge_date)
    held = visits.select(
        "patient_id",
        "discharge_date",
        number=ibis.row_number().over(in_order) + 1,
        since=visits.discharge_date.lag(population.visits - 1).over(in_order),
    )
    enough = held.number >= population.visits
    if population.within_days is not None:
        enough &= held.discharge_date.delta(held.since, unit="day") <= population.within_days
    joined = ibis.ifelse(enough, held.discharge_date, ibis.null("date"))
    dates = held.group_by("patient_id").aggregate(
        population_start=held.discharge_date.min(), population_date=joined.min()
    )
    return dates.filter(dates.population_date.notnull())


def index_dates(
    record: Record, index: Index, joined: ir.Table | None, outcome: str, gap_days: int
) -> ir.Table:
    """The index dates: `patient_id`, `index_date`, once each.

    Args:
        record: With the set `INDEX` where the index date has codes of its own.
        index: How they are found.
        joined: `population_dates`, where there is such a rule.
        outcome: The set of the first outcome's codes, for `before_outcome`.
        gap_days: Of that outcome.
    """
    if index.kind == "first_code":
        if joined is not None and not index.codes:
            return joined.select("patient_id", index_date="population_date")
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
        drawn = ibis.window(group_by=stays.patient_id, order_by=patient_hash(key, "index date", 0))
        stays = stays.mutate(place=ibis.row_number().over(drawn))
        stays = stays.filter(stays.place < index.max_per_patient)
    return stays.select("patient_id", index_date="discharge_date")


def _before_outcome(record: Record, outcome: str, gap_days: int) -> ir.Table:
    """The last discharge more than `gap_days` before the first outcome, or before the last visit."""
    visits = record.visits
    onset = ibis.ifelse(visits[outcome], visits.discharge_date, ibis.null("date"))
    events = visits.group_by("patient_id").aggregate(
        event=ibis.coalesce(onset.min(), visits.discharge_date.max())
    )
    dated = visits.join(events, "patient_id")
    earlier = dated.filter(dated.event.delta(dated.discharge_date, unit="day") > gap_days)
    return earlier.group_by("patient_id").aggregate(index_date=earlier.discharge_date.max())
