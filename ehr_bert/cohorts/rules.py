"""Rules that leave some examples, one after the other, and the flow of patients through them."""

from collections.abc import Mapping, Sequence

import ibis
import ibis.expr.types as ir

from ehr_bert.cohorts.definition import Definition, Exclusion
from ehr_bert.cohorts.record import Record, attached
from ehr_bert.engines import Engine
from ehr_bert.sequences.context import completed_years
from ehr_bert.sequences.eligibility import FlowStep

CohortRule = tuple[str, ir.BooleanValue]
"""What a rule is called, and where it holds; null is no."""


def passed(rules: Sequence[CohortRule]) -> ir.IntegerValue:
    """How many rules hold before the first that doesn't; all of them where all do."""
    failures = [(~holds.fill_null(False), place) for place, (_, holds) in enumerate(rules)]
    return ibis.cases(*failures, else_=len(rules)) if failures else ibis.literal(0)


def flow(engine: Engine, table: ir.Table, names: Sequence[str]) -> list[FlowStep]:
    """Who is left after each rule: patients, and rows of the table.

    Args:
        engine: Where to compute.
        table: With `patient_id`, and `passed` as that function makes it.
        names: What the rules are called.
    """
    rows = table.group_by(place=table.passed).aggregate(rows=table.count(), patients=ibis.literal(0))
    furthest = table.group_by("patient_id").aggregate(place=table.passed.max())
    patients = furthest.group_by("place").aggregate(rows=ibis.literal(0), patients=furthest.count())
    counts = engine.collect(rows).to_pylist() + engine.collect(patients).to_pylist()
    return [
        FlowStep(
            name,
            sum(count["patients"] for count in counts if count["place"] > place),
            sum(count["rows"] for count in counts if count["place"] > place),
        )
        for place, name in enumerate(names)
    ]


def standing(
    record: Record, dates: ir.Table, joined: ir.Table | None, exclusions: Mapping[str, Exclusion]
) -> ir.Table:
    """What is known of patients at their index dates.

    Args:
        record: With the sets of codes that `exclusions` names.
        dates: `patient_id`, `index_date`, once each; further columns are kept.
        joined: `population_dates`, where there is such a rule.
        exclusions: By set of codes, whom it rules out.

    Returns:
        `dates` with the columns of `Record.patients`; `population_start` and `population_date`; `age`;
        `history_visits` and `first_admit`, of visits up to the index date; and by the name of each set of
        `exclusions`, whether it rules the patient out.
    """
    known = attached(dates, record.patients, "patient_id")
    if joined is None:
        known = known.mutate(population_start=ibis.null("date"), population_date=ibis.null("date"))
    else:
        known = attached(known, joined, "patient_id")
    known = known.mutate(age=completed_years(known.birth_date, known.index_date).cast("int32"))
    visits = record.visits.select("patient_id", "discharge_date", "admit_date", *exclusions)
    seen = known.left_join(visits, "patient_id")
    past = (seen.discharge_date <= seen.index_date).fill_null(False)
    return seen.group_by(*known.columns).aggregate(
        history_visits=past.cast("int64").sum(),
        first_admit=ibis.ifelse(past, seen.admit_date, ibis.null("date")).min(),
        **{name: _ruled_out(seen, name, rule).any() for name, rule in exclusions.items()},
    )


def standing_rules(
    table: ir.Table, definition: Definition, has_patients: bool, exclusions: Mapping[str, Exclusion]
) -> list[CohortRule]:
    """The rules of a definition on what `standing` tells, but for those of its outcomes.

    Args:
        table: As `standing` makes it.
        definition: The cohort.
        has_patients: Whether the source tells of patients.
        exclusions: As for `standing`.
    """
    population, history = definition.population, definition.history
    rules: list[CohortRule] = []
    if population.codes:
        within = f" within {population.within_days} days" if population.within_days else ""
        name = f"{_counted(population.visits, 'visit')} with the population's codes{within} by then"
        rules.append((name, table.population_date <= table.index_date))
    if has_patients:
        rules.append(("alive", table.death_date.isnull() | (table.death_date > table.index_date)))
    rules.append(
        (f"{_counted(history.min_visits, 'visit')} up to it", table.history_visits >= history.min_visits)
    )
    if history.min_days:
        days = table.index_date.delta(table.first_admit, unit="day")
        rules.append((f"{_counted(history.min_days, 'day')} of history", days >= history.min_days))
    if history.min_age is not None:
        rules.append((f"aged {history.min_age} or more", table.age >= history.min_age))
    if history.max_age is not None:
        rules.append((f"aged {history.max_age} or less", table.age <= history.max_age))
    return rules + [(_exclusion_name(rule), ~table[name]) for name, rule in exclusions.items()]


def _ruled_out(seen: ir.Table, name: str, rule: Exclusion) -> ir.BooleanValue:
    held = seen[name].fill_null(False)
    if rule.when == "ever":
        return held
    end = seen.index_date if rule.when == "until_index" else seen.population_start
    days = seen.discharge_date.delta(end, unit="day")
    held = held & (days <= rule.margin_days).fill_null(False)
    return held if rule.washout_days is None else held & (days > -rule.washout_days)


def _exclusion_name(rule: Exclusion) -> str:
    codes = ", ".join(rule.codes[:2]) + (", ..." if len(rule.codes) > 2 else "")
    margin = f", and {rule.margin_days} days on" if rule.margin_days else ""
    washout = f" in the last {rule.washout_days} days" if rule.washout_days else ""
    when = {"until_index": "up to it", "until_population": "up to the population's codes", "ever": "ever"}
    return f"no {codes}{washout} {when[rule.when]}{margin}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
