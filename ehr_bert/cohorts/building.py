"""Building a cohort: the examples of a definition or of a label table."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.cohorts.definition import Definition
from ehr_bert.cohorts.index_dates import INDEX, POPULATION, index_dates, population_dates
from ehr_bert.cohorts.label_files import RISK
from ehr_bert.cohorts.matching import match_controls
from ehr_bert.cohorts.outcomes import outcome_labels
from ehr_bert.cohorts.patterns import matching_codes
from ehr_bert.cohorts.record import Record, add_columns, observed_patients, visits_of
from ehr_bert.cohorts.rules import cohort_flow, eligibility_facts, eligibility_rules, rules_passed
from ehr_bert.cohorts.source import Source
from ehr_bert.errors import UserError
from ehr_bert.schemas import OBSERVATION
from ehr_bert.sequences.eligibility import FlowStep
from ehr_bert.splits import with_split

_OUTCOME, _EXCLUSION, _PREDICTED = "outcome_", "exclude_", "asked_"
"""Prefixes of the names of code sets, next to `POPULATION` and `INDEX`. Predicted codes are not events."""

_KEY = ("patient_id", "index_date")
_FACTS = (*_KEY, "sex", "age", *OBSERVATION.names)


@dataclass(frozen=True)
class LabelledExamples:
    """The examples of a cohort, stored by an engine.

    Attributes:
        table: Distinct `patient_id` and `index_date`; `split`, `sex`, `age`; the columns of `OBSERVATION`;
            and one column per task.
        tasks: Names of the tasks.
        flow: The cohort flow; `rows` are examples.
        codes: Number of codes of the table in each code set of the definition.
    """

    table: ir.Table
    tasks: tuple[str, ...]
    flow: tuple[FlowStep, ...]
    codes: dict[str, int]


def build_examples(source: Source, definition: Definition, seed: int) -> LabelledExamples:
    """Build the examples of a definition.

    Args:
        source: The diagnosis table.
        definition: The definition.
        seed: Seed of the splits, unless the source has them, and of matching.

    Raises:
        UserError: A list of codes matches no code of the table (key `unknown-codes`), a rule needs patients
            that the source does not have (`missing-patients-table`), or no patient is eligible
            (`empty-cohort`).
    """
    engine, known = source.engine, source.events.patients
    history = definition.history
    if known is None and (history.min_age is not None or history.max_age is not None):
        raise UserError(
            "missing-patients-table",
            f"{source.path} has no patient table, which history.min_age and max_age require. Create the "
            "folder with `ehr-bert extract`.",
        )
    code_sets = _code_sets(source, definition)
    events = {name: codes for name, codes in code_sets.items() if not name.startswith(_PREDICTED)}
    visits = engine.materialise(visits_of(engine, source.usable.rows, events))
    until = date.fromisoformat(definition.observed_until) if definition.observed_until else None
    record = Record(visits, engine.materialise(observed_patients(visits, known, until)))
    candidates, rules = _candidates(record, definition, known is not None)
    candidates = engine.materialise(candidates)
    steps = [
        *cohort_flow(engine, record.patients.mutate(passed=1), ["patients"]),
        *cohort_flow(engine, candidates.mutate(passed=1), [f"with an index date ({definition.index.kind})"]),
        *cohort_flow(engine, candidates, rules),
    ]
    eligible = candidates.filter(candidates.passed == len(rules))
    computed = [visits, record.patients, candidates]
    names = tuple(outcome.name for outcome in definition.outcomes)
    examples = eligible.select(*_FACTS)
    for outcome in definition.outcomes:
        predicted = code_sets.get(_PREDICTED + outcome.name)
        code_rows = None if predicted is None else source.roll_up(source.rows_of(predicted))
        keys = eligible.select(*_KEY, "observed_until")
        labels = outcome_labels(record, keys, outcome, _OUTCOME + outcome.name, code_rows)
        computed.append(engine.materialise(labels.table))
        prefix = f"{outcome.name}: " if len(names) > 1 else ""
        steps += cohort_flow(engine, computed[-1], [prefix + name for name in labels.rules])
        examples = add_columns(examples, computed[-1].select(*_KEY, **{outcome.name: "label"}), *_KEY)
    examples = examples.filter(ibis.or_(*(examples[name].notnull() for name in names)))
    examples = with_split(examples, seed, source.events.splits)
    matching = definition.matching
    if matching:
        examples = match_controls(examples, matching, names[0], seed)
    final = engine.materialise(examples)
    if matching:
        per_case = f"at most {matching.controls} control{'' if matching.controls == 1 else 's'} per case"
        steps += cohort_flow(engine, final.mutate(passed=1), [per_case])
    elif len(names) > 1:
        steps += cohort_flow(engine, final.mutate(passed=1), ["at least one label"])
    for table in computed:
        engine.drop(table)
    _refuse_empty(source.path, steps, "Relax the rules of the definition.")
    return LabelledExamples(
        final, names, tuple(steps), {name: len(codes) for name, codes in code_sets.items()}
    )


def labelled_examples(source: Source, table: pa.Table, seed: int) -> LabelledExamples:
    """Return the examples of a label table whose patients have a visit up to the index date.

    Args:
        source: The diagnosis table.
        table: The result of `read_labels`.
        seed: Seed of the splits, unless the source has them.

    Raises:
        UserError: No patient is eligible (key `empty-cohort`).
    """
    engine = source.engine
    names = tuple(name for name in table.column_names if name not in (*_KEY, RISK))
    labels = engine.load(table.select([*_KEY, *names]))
    keys = labels.select(*_KEY, is_labelled=ibis.or_(*(labels[name].notnull() for name in names)))
    visits = engine.materialise(visits_of(engine, source.usable.rows, {}))
    record = Record(visits, observed_patients(visits, source.events.patients, None))
    facts = eligibility_facts(record, keys, None, {})
    rules = [
        ("patient in the diagnosis table", facts.last_discharge.notnull()),
        ("at least 1 visit of history", facts.history_visits > 0),
        ("at least one label", facts.is_labelled),
    ]
    candidates = engine.materialise(facts.mutate(passed=rules_passed(rules)).select(*_FACTS, "passed"))
    steps = [
        *cohort_flow(engine, candidates.mutate(passed=1), ["rows of the label table"]),
        *cohort_flow(engine, candidates, [name for name, _ in rules]),
    ]
    eligible = candidates.filter(candidates.passed == len(rules)).drop("passed")
    final = engine.materialise(with_split(add_columns(eligible, labels, *_KEY), seed, source.events.splits))
    engine.drop(visits)
    engine.drop(candidates)
    _refuse_empty(
        source.path, steps, "Check that the labels use the same patient ids and dates after the first visits."
    )
    return LabelledExamples(final, names, tuple(steps), {})


def _candidates(record: Record, definition: Definition, has_patients: bool) -> tuple[ir.Table, list[str]]:
    """Return patients at their index dates, with `passed`, and the names of the rules that it counts."""
    entries = population_dates(record, definition.population) if definition.population.codes else None
    outcome = definition.outcomes[0]
    dates = index_dates(record, definition.index, entries, _OUTCOME + outcome.name, outcome.gap_days)
    exclusions = {_EXCLUSION + str(number): rule for number, rule in enumerate(definition.exclude, 1)}
    facts = eligibility_facts(record, dates, entries, exclusions)
    rules = eligibility_rules(facts, definition, has_patients, exclusions)
    return facts.mutate(passed=rules_passed(rules)), [name for name, _ in rules]


def _refuse_empty(path: Path, steps: list[FlowStep], advice: str) -> None:
    """Raise a `UserError` with the cohort flow if no patient remains."""
    if steps[-1].patients == 0:
        flow = "; ".join(f"{step.rule}: {step.patients:,}" for step in steps)
        raise UserError("empty-cohort", f"{path} has no eligible patient (cohort flow: {flow}). {advice}")


def _code_sets(source: Source, definition: Definition) -> dict[str, list[str]]:
    """Return the codes of the table that match the patterns of each part of a definition, by name."""
    patterns = {POPULATION: definition.population.codes, INDEX: definition.index.codes}
    patterns |= {_EXCLUSION + str(number): rule.codes for number, rule in enumerate(definition.exclude, 1)}
    for outcome in definition.outcomes:
        if outcome.kind == "codes":
            patterns[_OUTCOME + outcome.name] = outcome.codes
        elif outcome.kind == "next_visit_codes":
            patterns[_PREDICTED + outcome.name] = outcome.codes or ("*",)
    matches = {name: matching_codes(codes, source.codes) for name, codes in patterns.items() if codes}
    for name, codes in matches.items():
        # An exclusion may match nothing. Every other list defines the cohort.
        if not codes and not name.startswith(_EXCLUSION):
            raise UserError(
                "unknown-codes",
                f"{source.path} has no code that matches {', '.join(patterns[name])}. Write codes as the "
                f"table does, such as {source.codes[0]}.",
            )
    return matches
