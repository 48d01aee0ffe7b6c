"""The examples of a cohort: who, from which day on, with which labels, as a definition says."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.cohorts.definition import Definition
from ehr_bert.cohorts.index_dates import INDEX, POPULATION, index_dates, population_dates
from ehr_bert.cohorts.label_files import RISK
from ehr_bert.cohorts.matching import matched
from ehr_bert.cohorts.outcomes import labels
from ehr_bert.cohorts.patterns import matching_codes
from ehr_bert.cohorts.record import Record, attached, observed_patients, visits_of
from ehr_bert.cohorts.rules import flow, passed, standing, standing_rules
from ehr_bert.cohorts.source import Source
from ehr_bert.errors import UserError
from ehr_bert.sequences.eligibility import FlowStep
from ehr_bert.splits import with_split

_OUTCOME, _EXCLUSION, _ASKED = "outcome_", "exclude_", "asked_"
"""How sets of codes are named, beside `POPULATION` and `INDEX`. Those of the last are no events."""

_KEY = ("patient_id", "index_date")
_FACTS = (*_KEY, "sex", "age")


@dataclass(frozen=True)
class LabelledExamples:
    """The examples of a cohort, kept on an engine.

    Attributes:
        table: `patient_id`, `index_date`, once each; `split`, `sex`, `age`; and a column a task.
        tasks: The names of these.
        flow: Who was left after each rule, with examples for rows.
        codes: By set of codes of the definition, how many codes of the table are in it.
    """

    table: ir.Table
    tasks: tuple[str, ...]
    flow: tuple[FlowStep, ...]
    codes: dict[str, int]


def build_examples(source: Source, definition: Definition, seed: int) -> LabelledExamples:
    """The examples that a definition asks for.

    Args:
        source: The diagnosis table.
        definition: The cohort.
        seed: Decides the splits that the source doesn't give, and which controls are matched.

    Raises:
        UserError: a list of codes fits no code of the table, a rule needs what the source doesn't tell, or
            nobody is left.
    """
    engine, known = source.engine, source.diagnoses.patients
    history = definition.history
    if known is None and (history.min_age is not None or history.max_age is not None):
        raise UserError(
            f"{source.where} tells nothing of patients, and history.min_age and max_age need their table: "
            "make the folder with `ehr-bert extract`"
        )
    code_sets = _code_sets(source, definition)
    events = {name: codes for name, codes in code_sets.items() if not name.startswith(_ASKED)}
    visits = engine.materialise(visits_of(engine, source.read.rows, events))
    until = date.fromisoformat(definition.observed_until) if definition.observed_until else None
    record = Record(visits, engine.materialise(observed_patients(visits, known, until)))
    candidates, rules = _candidates(record, definition, known is not None)
    candidates = engine.materialise(candidates)
    steps = [
        *flow(engine, record.patients.mutate(passed=1), ["patients"]),
        *flow(engine, candidates.mutate(passed=1), [f"with an index date ({definition.index.kind})"]),
        *flow(engine, candidates, rules),
    ]
    eligible = candidates.filter(candidates.passed == len(rules))
    computed = [visits, record.patients, candidates]
    names = tuple(outcome.name for outcome in definition.outcomes)
    examples = eligible.select(*_FACTS)
    for outcome in definition.outcomes:
        asked_codes = code_sets.get(_ASKED + outcome.name)
        asked = None if asked_codes is None else source.rolled_up(source.rows_of(asked_codes))
        questions = eligible.select(*_KEY, "observed_until")
        answers = labels(record, questions, outcome, _OUTCOME + outcome.name, asked)
        computed.append(engine.materialise(answers.table))
        prefix = f"{outcome.name}: " if len(names) > 1 else ""
        steps += flow(engine, computed[-1], [prefix + name for name in answers.rules])
        examples = attached(examples, computed[-1].select(*_KEY, **{outcome.name: "label"}), *_KEY)
    examples = examples.filter(ibis.or_(*(examples[name].notnull() for name in names)))
    examples = with_split(examples, seed, source.diagnoses.splits)
    if definition.matching:
        examples = matched(examples, definition.matching, names[0], seed)
    final = engine.materialise(examples)
    if definition.matching:
        steps += flow(engine, final.mutate(passed=1), [f"{definition.matching.controls} controls a case"])
    elif len(names) > 1:
        steps += flow(engine, final.mutate(passed=1), ["a label at least"])
    for table in computed:
        engine.drop(table)
    _check_somebody_is_left(source.where, steps, "loosen them")
    return LabelledExamples(
        final, names, tuple(steps), {name: len(codes) for name, codes in code_sets.items()}
    )


def labelled_examples(source: Source, table: pa.Table, seed: int) -> LabelledExamples:
    """The examples of a table of labels whose patients have a visit up to the index date.

    Args:
        source: The diagnosis table.
        table: As `read_labels` gives it.
        seed: Decides the splits that the source doesn't give.

    Raises:
        UserError: nobody is left.
    """
    engine = source.engine
    names = tuple(name for name in table.column_names if name not in (*_KEY, RISK))
    given = engine.load(table.select([*_KEY, *names]))
    told = given.select(*_KEY, is_labelled=ibis.or_(*(given[name].notnull() for name in names)))
    visits = engine.materialise(visits_of(engine, source.read.rows, {}))
    record = Record(visits, observed_patients(visits, source.diagnoses.patients, None))
    stood = standing(record, told, None, {})
    rules = [
        ("in the diagnosis table", stood.last_discharge.notnull()),
        ("1 visit up to it", stood.history_visits > 0),
        ("a label at least", stood.is_labelled),
    ]
    candidates = engine.materialise(stood.mutate(passed=passed(rules)).select(*_FACTS, "passed"))
    steps = [
        *flow(engine, candidates.mutate(passed=1), ["labels"]),
        *flow(engine, candidates, [name for name, _ in rules]),
    ]
    left = attached(candidates.filter(candidates.passed == len(rules)).drop("passed"), given, *_KEY)
    final = engine.materialise(with_split(left, seed, source.diagnoses.splits))
    engine.drop(visits)
    engine.drop(candidates)
    mend = "are its patient ids those of the labels, and its days before theirs?"
    _check_somebody_is_left(source.where, steps, mend)
    return LabelledExamples(final, names, tuple(steps), {})


def _candidates(record: Record, definition: Definition, has_patients: bool) -> tuple[ir.Table, list[str]]:
    """Patients at their index dates, with `passed`; and what the rules are called that it counts."""
    joined = population_dates(record, definition.population) if definition.population.codes else None
    outcome = definition.outcomes[0]
    dates = index_dates(record, definition.index, joined, _OUTCOME + outcome.name, outcome.gap_days)
    exclusions = {_EXCLUSION + str(place): rule for place, rule in enumerate(definition.exclude, 1)}
    stood = standing(record, dates, joined, exclusions)
    rules = standing_rules(stood, definition, has_patients, exclusions)
    return stood.mutate(passed=passed(rules)), [name for name, _ in rules]


def _check_somebody_is_left(where: Path, steps: list[FlowStep], mend: str) -> None:
    """Raises a `UserError` that tells the flow, unless somebody is left."""
    if steps[-1].patients == 0:
        left = "; ".join(f"{step.rule}: {step.patients:,}" for step in steps)
        raise UserError(f"{where}: the rules leave no patient ({left}): {mend}")


def _code_sets(source: Source, definition: Definition) -> dict[str, list[str]]:
    """By name, the codes of the table that fit the patterns of each part of a definition."""
    patterns = {POPULATION: definition.population.codes, INDEX: definition.index.codes}
    patterns |= {_EXCLUSION + str(place): rule.codes for place, rule in enumerate(definition.exclude, 1)}
    for outcome in definition.outcomes:
        if outcome.kind == "codes":
            patterns[_OUTCOME + outcome.name] = outcome.codes
        elif outcome.kind == "next_visit_codes":
            patterns[_ASKED + outcome.name] = outcome.codes or ("*",)
    found = {name: matching_codes(each, source.codes) for name, each in patterns.items() if each}
    for name, codes in found.items():
        # Codes that rule nobody out are no fault; a cohort without its own codes is.
        if not codes and not name.startswith(_EXCLUSION):
            shown = ", ".join(patterns[name])
            example = next(iter(source.codes))
            raise UserError(f"{source.where} has no code {shown}: are its codes written so? One is {example}")
    return found
