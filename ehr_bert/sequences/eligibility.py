"""Eligibility of visits, patients and codes. Without rules nothing is excluded."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.codes.headings import ancestors, parent
from ehr_bert.engines import Engine
from ehr_bert.sequences.recoding import code_rows

SequenceRule = tuple[str, Callable[[ir.Table], ir.BooleanValue]]
"""The name of a rule, and a condition on the rows of a table that are kept."""


@dataclass(frozen=True)
class Eligibility:
    """Eligibility rules, in the order in which they are applied. All are off by default.

    Attributes:
        from_date: Keep visits with a discharge on this day or later.
        until: Keep visits with a discharge on this day or earlier.
        min_codes: Keep patients with at least this many codes, each counted once per visit.
        min_visits: Keep patients with at least this many visits.
        min_patients: Keep codes of at least this many patients of the training split.
    """

    from_date: date | None = None
    until: date | None = None
    min_codes: int = 0
    min_visits: int = 0
    min_patients: int = 0


@dataclass(frozen=True)
class FlowStep:
    """One step of the cohort flow.

    Attributes:
        rule: Name of the rule.
        patients: Number of patients after the rule.
        rows: Number of rows of the diagnosis table after the rule.
    """

    rule: str
    patients: int
    rows: int


@dataclass(frozen=True)
class EligibleRows:
    """The rows of a diagnosis table that satisfy the rules on visits and patients.

    Attributes:
        rows: The table. It is materialised if there is a rule.
        flow: Counts at the start and after each rule; empty if there is no rule.
        outside_dates: Number of rows excluded by the rules on dates.
        of_ineligible: Number of rows of patients excluded by the rules on patients.
    """

    rows: ir.Table
    flow: tuple[FlowStep, ...]
    outside_dates: int
    of_ineligible: int


@dataclass(frozen=True)
class RareCodes:
    """Replacements of codes with too few patients.

    Attributes:
        targets: Heading that replaces each rare code; its category if no heading has enough patients.
        unknown: Targets, and codes without a heading, that are still too rare and become `[UNK]`.
        counts: Number of distinct codes that are replaced by a heading or become `[UNK]`, and of their rows.
    """

    targets: Mapping[str, str]
    unknown: frozenset[str]
    counts: Mapping[str, int]


def eligible_rows(engine: Engine, diagnoses: ir.Table, eligibility: Eligibility) -> EligibleRows:
    """Apply the rules on visits and patients to the usable rows of a diagnosis table."""
    visit_rules, patient_rules = _visit_rules(eligibility), _patient_rules(eligibility)
    if not visit_rules and not patient_rules:
        return EligibleRows(diagnoses, (), 0, 0)
    visits = engine.materialise(_visits(diagnoses))
    by_visit = _filtered(("usable rows", visits), visit_rules)
    _, dated = by_visit[-1]
    patients = dated.group_by("patient_id").aggregate(
        rows=dated.rows.sum(), codes=dated.codes.sum(), visits=dated.count()
    )
    _, *by_patient = _filtered(("", patients), patient_rules)
    flow = tuple(_flow_step(engine, rule, kept) for rule, kept in (*by_visit, *by_patient))
    rows = diagnoses.filter(*(holds for _, holds in visit_rules)) if visit_rules else diagnoses
    if by_patient:
        rows = rows.semi_join(by_patient[-1][1], "patient_id")
    computed = engine.materialise(rows)
    engine.drop(visits)
    after_dates = flow[len(visit_rules)].rows
    return EligibleRows(computed, flow, flow[0].rows - after_dates, after_dates - flow[-1].rows)


def rare_codes(
    engine: Engine, diagnoses: ir.Table, training: ir.Table, min_patients: int, kept: Collection[str]
) -> RareCodes:
    """Find the replacements of codes with too few patients in the training split.

    Starting with the deepest codes, each rare code is replaced by the next heading above it. The patients of
    the heading then include those of all codes that it replaces.

    Args:
        engine: Engine that counts the patients.
        diagnoses: Eligible rows of a diagnosis table.
        training: The rows of the training split.
        min_patients: Minimum number of patients of a code.
        kept: Codes that are never replaced.
    """
    rows = code_rows(engine, diagnoses)
    pairs = engine.materialise(training.select("patient_id", "code").distinct())
    targets = {code: code for code in rows}
    common: set[str] = set()
    for depth in range(max(map(_depth, rows), default=0), -1, -1):
        candidates = {code: target for code, target in targets.items() if _depth(target) == depth}
        patients = _patients_of(engine, pairs, candidates)
        frequent = {target for target in candidates.values() if patients.get(target, 0) >= min_patients}
        common |= frequent | (set(candidates.values()) & set(kept))
        targets |= {
            code: parent(target) or target for code, target in candidates.items() if target not in common
        }
    engine.drop(pairs)
    to_unknown = {code for code, target in targets.items() if target not in common}
    to_heading = {code for code, target in targets.items() if target != code} - to_unknown
    return RareCodes(
        targets=targets,
        unknown=frozenset(targets[code] for code in to_unknown),
        counts={
            "codes_to_heading": len(to_heading),
            "rows_to_heading": sum(rows[code] for code in to_heading),
            "codes_to_unknown": len(to_unknown),
            "rows_to_unknown": sum(rows[code] for code in to_unknown),
        },
    )


def _visit_rules(eligibility: Eligibility) -> list[SequenceRule]:
    rules: list[SequenceRule] = []
    if eligibility.from_date:
        first = ibis.literal(eligibility.from_date)
        rules.append(
            (f"discharged from {eligibility.from_date}", lambda table: table.discharge_date >= first)
        )
    if eligibility.until:
        last = ibis.literal(eligibility.until)
        rules.append((f"discharged until {eligibility.until}", lambda table: table.discharge_date <= last))
    return rules


def _patient_rules(eligibility: Eligibility) -> list[SequenceRule]:
    rules: list[SequenceRule] = []
    if eligibility.min_codes:
        rules.append(
            (f"at least {eligibility.min_codes} codes", lambda table: table.codes >= eligibility.min_codes)
        )
    if eligibility.min_visits:
        rules.append(
            (
                f"at least {eligibility.min_visits} visits",
                lambda table: table.visits >= eligibility.min_visits,
            )
        )
    return rules


def _filtered(start: tuple[str, ir.Table], rules: list[SequenceRule]) -> list[tuple[str, ir.Table]]:
    """Return the table at the start and after each rule."""
    steps = [start]
    for name, holds in rules:
        _, table = steps[-1]
        steps.append((name, table.filter(holds(table))))
    return steps


def _visits(diagnoses: ir.Table) -> ir.Table:
    """Return one row per patient and visit with its number of `rows` and of distinct `codes`."""
    keys = ("patient_id", "discharge_date")
    coded = diagnoses.group_by(*keys, "code").aggregate(rows=diagnoses.count())
    return coded.group_by(*keys).aggregate(rows=coded.rows.sum(), codes=coded.count())


def _flow_step(engine: Engine, rule: str, table: ir.Table) -> FlowStep:
    counts = table.aggregate(patients=table.patient_id.nunique(), rows=table.rows.sum().fill_null(0))
    (row,) = engine.collect(counts).to_pylist()
    return FlowStep(rule, row["patients"], row["rows"])


def _depth(code: str) -> int:
    """Return the number of headings above a code."""
    return sum(1 for _ in ancestors(code))


def _patients_of(engine: Engine, pairs: ir.Table, targets: Mapping[str, str]) -> dict[str, int]:
    """Return the number of patients of each target, from pairs of patient and code."""
    lookup = engine.load(
        pa.table(
            {
                "code": pa.array(targets.keys(), pa.string()),
                "target": pa.array(targets.values(), pa.string()),
            }
        )
    )
    replaced = pairs.join(lookup, "code").select("patient_id", "target").distinct()
    counts = engine.collect(replaced.group_by("target").aggregate(patients=replaced.count()))
    return dict(zip(counts["target"].to_pylist(), counts["patients"].to_pylist(), strict=True))
