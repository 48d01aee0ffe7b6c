"""Which visits, patients and codes are taken: nothing is left out unless a rule asks for it."""

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
"""What a rule is called, and which rows of a table it leaves."""


@dataclass(frozen=True)
class Eligibility:
    """The rules, in the order in which they are applied; all are off by default.

    Attributes:
        from_date: Visits discharged on this day or later.
        until: Visits discharged on this day or earlier, so that nothing after it is seen.
        min_codes: Patients with at least this many codes, each counted once a visit.
        min_visits: Patients with at least this many visits.
        min_patients: Codes that at least this many patients of the training split have.
    """

    from_date: date | None = None
    until: date | None = None
    min_codes: int = 0
    min_visits: int = 0
    min_patients: int = 0


@dataclass(frozen=True)
class FlowStep:
    """Who is left after a rule: patients, and rows of the diagnosis table."""

    rule: str
    patients: int
    rows: int


@dataclass(frozen=True)
class EligibleRows:
    """The rows of a diagnosis table that are left by the rules on visits and patients.

    Attributes:
        rows: The table, computed where a rule is on.
        flow: Who there was, then who was left after each rule; empty where none is on.
        outside_dates: Rows that the rules on dates left out.
        of_ineligible: Rows of the patients that the rules on patients left out.
    """

    rows: ir.Table
    flow: tuple[FlowStep, ...]
    outside_dates: int
    of_ineligible: int


@dataclass(frozen=True)
class RareCodes:
    """Codes of too few patients, by what became of them.

    Attributes:
        targets: The heading that takes in each rare code, or where none is common enough, its category.
        unknown: Those targets, and codes without a heading, that are too rare all the same: `[UNK]`.
        counts: Distinct codes, and rows of the table that have them, that a heading took in or that
            become `[UNK]`.
    """

    targets: Mapping[str, str]
    unknown: frozenset[str]
    counts: Mapping[str, int]


def eligible_rows(engine: Engine, diagnoses: ir.Table, eligibility: Eligibility) -> EligibleRows:
    """Applies the rules on visits and patients to the usable rows of a diagnosis table."""
    on_visits, on_patients = _visit_rules(eligibility), _patient_rules(eligibility)
    if not on_visits and not on_patients:
        return EligibleRows(diagnoses, (), 0, 0)
    visits = engine.materialise(_visits(diagnoses))
    by_visit = _narrowed(("usable rows", visits), on_visits)
    _, dated = by_visit[-1]
    patients = dated.group_by("patient_id").aggregate(
        rows=dated.rows.sum(), codes=dated.codes.sum(), visits=dated.count()
    )
    _, *by_patient = _narrowed(("", patients), on_patients)
    flow = tuple(_flow_step(engine, rule, left) for rule, left in (*by_visit, *by_patient))
    rows = diagnoses.filter(*(holds for _, holds in on_visits)) if on_visits else diagnoses
    if by_patient:
        rows = rows.semi_join(by_patient[-1][1], "patient_id")
    computed = engine.materialise(rows)
    engine.drop(visits)
    after_dates = flow[len(on_visits)].rows
    return EligibleRows(computed, flow, flow[0].rows - after_dates, after_dates - flow[-1].rows)


def rare_codes(
    engine: Engine, diagnoses: ir.Table, training: ir.Table, min_patients: int, kept: Collection[str]
) -> RareCodes:
    """Finds what becomes of the codes that too few patients of the training split have.

    From the longest codes on, each that is too rare goes to the next heading above it, whose patients are
    then counted with those of all codes that it took in.

    Args:
        engine: Where to compute.
        diagnoses: The eligible rows of a diagnosis table.
        training: Those of the training split.
        min_patients: How many patients make a code common enough.
        kept: Codes that stay, however rare.
    """
    rows = code_rows(engine, diagnoses)
    pairs = engine.materialise(training.select("patient_id", "code").distinct())
    targets = {code: code for code in rows}
    common: set[str] = set()
    for depth in range(max(map(_depth, rows), default=0), -1, -1):
        here = {code: target for code, target in targets.items() if _depth(target) == depth}
        patients = _patients_of(engine, pairs, here)
        enough = {target for target in here.values() if patients.get(target, 0) >= min_patients}
        common |= enough | (set(here.values()) & set(kept))
        targets |= {code: parent(target) or target for code, target in here.items() if target not in common}
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


def _narrowed(start: tuple[str, ir.Table], rules: list[SequenceRule]) -> list[tuple[str, ir.Table]]:
    """What is left at the start and after each rule."""
    steps = [start]
    for name, holds in rules:
        _, left = steps[-1]
        steps.append((name, left.filter(holds(left))))
    return steps


def _visits(diagnoses: ir.Table) -> ir.Table:
    """A row a patient and visit: its `rows`, and its `codes`, each once."""
    keys = ("patient_id", "discharge_date")
    coded = diagnoses.group_by(*keys, "code").aggregate(rows=diagnoses.count())
    return coded.group_by(*keys).aggregate(rows=coded.rows.sum(), codes=coded.count())


def _flow_step(engine: Engine, rule: str, left: ir.Table) -> FlowStep:
    counts = left.aggregate(patients=left.patient_id.nunique(), rows=left.rows.sum().fill_null(0))
    (row,) = engine.collect(counts).to_pylist()
    return FlowStep(rule, row["patients"], row["rows"])


def _depth(code: str) -> int:
    """How many headings are above a code."""
    return sum(1 for _ in ancestors(code))


def _patients_of(engine: Engine, pairs: ir.Table, targets: Mapping[str, str]) -> dict[str, int]:
    """How many patients have each target, by their pairs of patient and code; other codes are left out."""
    lookup = engine.load(
        pa.table(
            {
                "code": pa.array(targets.keys(), pa.string()),
                "target": pa.array(targets.values(), pa.string()),
            }
        )
    )
    moved = pairs.join(lookup, "code").select("patient_id", "target").distinct()
    counts = engine.collect(moved.group_by("target").aggregate(patients=moved.count()))
    return dict(zip(counts["target"].to_pylist(), counts["patients"].to_pylist(), strict=True))
