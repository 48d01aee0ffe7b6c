"""Eligibility rules, and the cohort flow: how many patients remain after each rule."""

from collections.abc import Mapping, Sequence

import ibis
import ibis.expr.types as ir

from ehr_bert.cohorts.definition import Definition, Exclusion
from ehr_bert.cohorts.record import Record, add_columns
from ehr_bert.engines import Engine
from ehr_bert.sequences.context import completed_years
from ehr_bert.sequences.eligibility import FlowStep

CohortRule = tuple[str, ir.BooleanValue]
"""The name of a rule, and the condition that eligible rows meet. Null counts as false."""


def rules_passed(rules: Sequence[CohortRule]) -> ir.IntegerValue:
    """Return the number of rules that hold before the first that does not, or all of them."""
    failures = [(~holds.fill_null(False), place) for place, (_, holds) in enumerate(rules)]
    return ibis.cases(*failures, else_=len(rules)) if failures else ibis.literal(0)


def cohort_flow(engine: Engine, table: ir.Table, names: Sequence[str]) -> list[FlowStep]:
    """Count the patients and rows that remain after each rule.

    Args:
        engine: Engine that computes.
        table: A table with `patient_id`, and `passed` as `rules_passed` returns it.
        names: Names of the rules.
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


def eligibility_facts(
    record: Record, dates: ir.Table, joined: ir.Table | None, exclusions: Mapping[str, Exclusion]
) -> ir.Table:
    """Return what the eligibility rules need to know of patients at their index dates.

    Args:
        record: Patients and visits, with the code sets that `exclusions` names.
        dates: Distinct `patient_id` and `index_date`. Further columns are kept.
        joined: The result of `population_dates`, if the definition has a population.
        exclusions: Exclusions by the name of their code set.

    Returns:
        `dates` with the columns of `Record.patients`; `population_start` and `population_date`; `age`;
        `history_visits` and `first_admit`, of the visits up to the index date; and one boolean column per
        exclusion, true if it excludes the patient.
    """
    known = add_columns(dates, record.patients, "patient_id")
    if joined is None:
        known = known.mutate(population_start=ibis.null("date"), population_date=ibis.null("date"))
    else:
        known = add_columns(known, joined, "patient_id")
    known = known.mutate(age=completed_years(known.birth_date, known.index_date).cast("int32"))
    visits = record.visits.select("patient_id", "discharge_date", "admit_date", *exclusions)
    seen = known.left_join(visits, "patient_id")
    past = (seen.discharge_date <= seen.index_date).fill_null(False)
    return seen.group_by(*known.columns).aggregate(
        history_visits=past.cast("int64").sum(),
        first_admit=ibis.ifelse(past, seen.admit_date, ibis.null("date")).min(),
        **{name: _excludes(seen, name, rule).any() for name, rule in exclusions.items()},
    )


def eligibility_rules(
    facts: ir.Table, definition: Definition, has_patients: bool, exclusions: Mapping[str, Exclusion]
) -> list[CohortRule]:
    """Return the rules of a definition, without those of its outcomes.

    Args:
        facts: The result of `eligibility_facts`.
        definition: The definition.
        has_patients: Whether the source has a table of patients.
        exclusions: Exclusions by the name of their code set.
    """
    population, history = definition.population, definition.history
    rules: list[CohortRule] = []
    if population.codes:
        within = f" within {population.within_days} days" if population.within_days else ""
        name = f"{_counted(population.visits, 'visit')} with the population's codes{within}"
        rules.append((name, facts.population_date <= facts.index_date))
    if has_patients:
        rules.append(("alive", facts.death_date.isnull() | (facts.death_date > facts.index_date)))
    rules.append(
        (
            f"at least {_counted(history.min_visits, 'visit')} of history",
            facts.history_visits >= history.min_visits,
        )
    )
    if history.min_days:
        days = facts.index_date.delta(facts.first_admit, unit="day")
        rules.append((f"at least {_counted(history.min_days, 'day')} of history", days >= history.min_days))
    if history.min_age is not None:
        rules.append((f"aged {history.min_age} or more", facts.age >= history.min_age))
    if history.max_age is not None:
        rules.append((f"aged {history.max_age} or less", facts.age <= history.max_age))
    return rules + [(_exclusion_name(rule), ~facts[name]) for name, rule in exclusions.items()]


def _excludes(seen: ir.Table, name: str, rule: Exclusion) -> ir.BooleanValue:
    has_code = seen[name].fill_null(False)
    if rule.when == "ever":
        return has_code
    end = seen.index_date if rule.when == "until_index" else seen.population_start
    days = seen.discharge_date.delta(end, unit="day")
    excludes = has_code & (days <= rule.margin_days).fill_null(False)
    return excludes if rule.washout_days is None else excludes & (days > -rule.washout_days)


def _exclusion_name(rule: Exclusion) -> str:
    codes = ", ".join(rule.codes[:2]) + (", ..." if len(rule.codes) > 2 else "")
    if rule.when == "ever":
        return f"no {codes} at any time"
    if rule.when == "until_index":
        day = "the index date"
    else:
        day = f"{_counted(rule.margin_days, 'day')} after " if rule.margin_days else ""
        day += "the first code of the population"
    if rule.washout_days is None:
        return f"no {codes} up to {day}"
    return f"no {codes} in the {_counted(rule.washout_days, 'day')} up to {day}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
