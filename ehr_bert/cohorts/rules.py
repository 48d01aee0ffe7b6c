"""Eligibility rules, and the cohort flow: the number of patients that remain after each rule."""

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
    failures = [(~holds.fill_null(False), number) for number, (_, holds) in enumerate(rules)]
    return ibis.cases(*failures, else_=len(rules)) if failures else ibis.literal(0)


def cohort_flow(engine: Engine, table: ir.Table, names: Sequence[str]) -> list[FlowStep]:
    """Count the patients and rows that remain after each rule.

    Args:
        engine: Engine that computes.
        table: A table with `patient_id`, and `passed` as `rules_passed` returns it.
        names: Names of the rules.
    """
    rows = table.group_by(passed=table.passed).aggregate(rows=table.count(), patients=ibis.literal(0))
    passed_by_patient = table.group_by("patient_id").aggregate(passed=table.passed.max())
    patients = passed_by_patient.group_by("passed").aggregate(
        rows=ibis.literal(0), patients=passed_by_patient.count()
    )
    counts = engine.collect(rows).to_pylist() + engine.collect(patients).to_pylist()
    return [
        FlowStep(
            name,
            sum(count["patients"] for count in counts if count["passed"] > number),
            sum(count["rows"] for count in counts if count["passed"] > number),
        )
        for number, name in enumerate(names)
    ]


def eligibility_facts(
    record: Record, dates: ir.Table, entries: ir.Table | None, exclusions: Mapping[str, Exclusion]
) -> ir.Table:
    """Return the facts that the eligibility rules use, of patients at their index dates.

    Args:
        record: Patients and visits, with the code sets that `exclusions` names.
        dates: Distinct `patient_id` and `index_date`. Further columns are kept.
        entries: The result of `population_dates`, if the definition has a population.
        exclusions: Exclusions by the name of their code set.

    Returns:
        `dates` with the columns of `Record.patients`; `population_start` and `population_date`; `age`;
        `history_visits` and `first_admit`, of the visits up to the index date; and one boolean column per
        exclusion, true if it excludes the patient.
    """
    known = add_columns(dates, record.patients, "patient_id")
    if entries is None:
        known = known.mutate(population_start=ibis.null("date"), population_date=ibis.null("date"))
    else:
        known = add_columns(known, entries, "patient_id")
    known = known.mutate(age=completed_years(known.birth_date, known.index_date).cast("int32"))
    visits = record.visits.select("patient_id", "discharge_date", "admit_date", *exclusions)
    joined = known.left_join(visits, "patient_id")
    past = (joined.discharge_date <= joined.index_date).fill_null(False)
    return joined.group_by(*known.columns).aggregate(
        history_visits=past.cast("int64").sum(),
        first_admit=ibis.ifelse(past, joined.admit_date, ibis.null("date")).min(),
        **{name: _excludes(joined, name, rule).any() for name, rule in exclusions.items()},
    )


def eligibility_rules(
    facts: ir.Table, definition: Definition, has_patients: bool, exclusions: Mapping[str, Exclusion]
) -> list[CohortRule]:
    """Return the rules of a definition, without those of its outcomes.

    Args:
        facts: The result of `eligibility_facts`.
        definition: The definition.
        has_patients: Whether the source has a patient table.
        exclusions: Exclusions by the name of their code set.
    """
    population, history = definition.population, definition.history
    rules: list[CohortRule] = []
    if population.codes:
        within = f" within {population.within_days} days" if population.within_days else ""
        name = f"{_with_noun(population.visits, 'visit')} with the population's codes{within}"
        rules.append((name, facts.population_date <= facts.index_date))
    if has_patients:
        rules.append(("alive", facts.death_date.isnull() | (facts.death_date > facts.index_date)))
    rules.append(
        (
            f"at least {_with_noun(history.min_visits, 'visit')} of history",
            facts.history_visits >= history.min_visits,
        )
    )
    if history.min_days:
        days = facts.index_date.delta(facts.first_admit, unit="day")
        rules.append((f"at least {_with_noun(history.min_days, 'day')} of history", days >= history.min_days))
    if history.min_age is not None:
        rules.append((f"aged {history.min_age} or more", facts.age >= history.min_age))
    if history.max_age is not None:
        rules.append((f"aged {history.max_age} or less", facts.age <= history.max_age))
    return rules + [(_exclusion_name(rule), ~facts[name]) for name, rule in exclusions.items()]


def _excludes(joined: ir.Table, name: str, rule: Exclusion) -> ir.BooleanValue:
    has_code = joined[name].fill_null(False)
    if rule.when == "ever":
        return has_code
    end = joined.index_date if rule.when == "until_index" else joined.population_start
    days = joined.discharge_date.delta(end, unit="day")
    excludes = has_code & (days <= rule.margin_days).fill_null(False)
    return excludes if rule.washout_days is None else excludes & (days > -rule.washout_days)


def _exclusion_name(rule: Exclusion) -> str:
    codes = ", ".join(rule.codes[:2]) + (", ..." if len(rule.codes) > 2 else "")
    if rule.when == "ever":
        return f"no {codes} at any time"
    if rule.when == "until_index":
        day = "the index date"
    else:
        day = f"{_with_noun(rule.margin_days, 'day')} after " if rule.margin_days else ""
        day += "the first code of the population"
    if rule.washout_days is None:
        return f"no {codes} up to {day}"
    return f"no {codes} in the {_with_noun(rule.washout_days, 'day')} up to {day}"


def _with_noun(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
