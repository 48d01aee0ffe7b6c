"""The OMOP common data model, 5.3 and 5.4: conditions and the visits that they were found in."""

from collections.abc import Sequence
from enum import StrEnum

import ibis
import ibis.expr.types as ir

from ehr_bert.codes import CodeSystem
from ehr_bert.codes.naming import system_by_shape, system_named
from ehr_bert.schemas import PATIENTS
from ehr_bert.sources.checks import RejectionReason
from ehr_bert.sources.store import Names, Store, agreed, diagnosis_rows
from ehr_bert.sources.tables import Tables, whole

OMOP_PREFIX = "OMOP_"
"""How a standard concept begins that is no code of a `CodeSystem`: its concept id follows."""


class OmopCodes(StrEnum):
    """Which of a condition's codes is taken."""

    SOURCE = "source"
    STANDARD = "standard"


_SEXES = {"8507": "M", "8532": "F"}

_LIVES = {
    "death": {"death_date": ("death_date", "min")},
    "observation_period": {
        "observation_period_start_date": ("observation_start", "min"),
        "observation_period_end_date": ("observation_end", "max"),
    },
}
"""By table, the column that makes which of `PATIENTS`, and which of a person's rows counts."""

_PRIMARY = ("32901", "32902", "32903", "44786627")
"""Conditions of this status or type were a visit's main one."""

_POSITIONS = {38000183: 16, 38000199: 16, 38000215: 15, 38000230: 15}
"""Types that give a condition's position on a claim: by the first one's id, how many positions."""


def read_omop(
    tables: Tables,
    codes: OmopCodes = OmopCodes.SOURCE,
    condition_types: Sequence[str] = (),
    vocabulary: CodeSystem | None = None,
) -> Store:
    """Reads `condition_occurrence`, `visit_occurrence` and `person`, and where they are `concept`, `death`,
    `observation_period` and `visit_detail`.

    Args:
        tables: The store.
        codes: Source codes, or standard concepts.
        condition_types: The ids of the `condition_type_concept_id` to take; by default all.
        vocabulary: What source codes are of whose concept isn't in `concept`; by default their shape tells.

    Raises:
        UserError: a table or a column lacks.
    """
    raw = tables.read(
        "condition_occurrence",
        [
            "condition_occurrence_id",
            "person_id",
            "condition_concept_id",
            "condition_start_date",
            "condition_type_concept_id",
            "visit_occurrence_id",
            "condition_source_value",
            "condition_source_concept_id",
        ],
        optional=["visit_detail_id", "condition_status_concept_id"],
    )
    is_source = codes == OmopCodes.SOURCE
    concept_id = whole(raw.condition_source_concept_id if is_source else raw.condition_concept_id)
    rows = _with_visit_of_detail(raw.mutate(concept_id=concept_id), tables)
    rows = _with_concepts(rows, tables)
    condition_type = whole(rows.condition_type_concept_id)
    is_left_out = ~condition_type.isin(condition_types) if condition_types else ibis.literal(False)
    fault = ibis.ifelse(is_left_out, RejectionReason.CONDITION_TYPE.value, ibis.null("string"))
    system = system_named(rows.vocabulary_id)
    if is_source:
        code = rows.concept_code.coalesce(rows.condition_source_value)
        guess = ibis.literal(vocabulary.value) if vocabulary else system_by_shape(code)
        coding = {
            "code": code,
            "system": ibis.ifelse(rows.vocabulary_id.isnull(), guess, system),
            "system_name": rows.vocabulary_id,
        }
    else:
        fault = fault.coalesce(
            ibis.ifelse(
                rows.concept_id.fill_null("0") == "0", RejectionReason.NO_CONCEPT.value, ibis.null("string")
            )
        )
        coding = {
            "code": ibis.ifelse(system.isnull(), rows.concept_id, rows.concept_code),
            "system": system,
            "final_code": ibis.ifelse(
                system.isnull(), ibis.literal(OMOP_PREFIX) + rows.concept_id, ibis.null("string")
            ),
        }
    return Store(
        names=Names(
            code=f"condition_occurrence.condition_{'source_value' if is_source else 'concept_id'}",
            patient_id="person.person_id",
            visit_id="visit_occurrence.visit_occurrence_id",
            admit_date="visit_occurrence.visit_start_date",
            discharge_date="visit_occurrence.visit_end_date",
        ),
        diagnoses=diagnosis_rows(
            rows,
            record=("condition_occurrence_id",),
            patient_id=whole(rows.person_id),
            visit_id=whole(rows.visit_occurrence_id),
            date=rows.condition_start_date,
            priority=_priority(condition_type, whole(rows.condition_status_concept_id)),
            fault=fault,
            **coding,
        ),
        visits=_visits(tables),
        patients=_patients(tables),
    )


def _with_visit_of_detail(rows: ir.Table, tables: Tables) -> ir.Table:
    """Gives a condition that names only a visit detail the visit which that is part of."""
    if "visit_detail" not in tables:
        return rows
    details = tables.read("visit_detail", ["visit_detail_id", "visit_occurrence_id"])
    details = details.select(
        detail_id=whole(details.visit_detail_id), detail_visit=details.visit_occurrence_id
    )
    visit_of = agreed(details, "detail_id", ["detail_visit"]).select("detail_id", "detail_visit")
    joined = rows.left_join(visit_of, whole(rows.visit_detail_id) == visit_of.detail_id)
    return joined.mutate(visit_occurrence_id=joined.visit_occurrence_id.coalesce(joined.detail_visit)).drop(
        "detail_id", "detail_visit"
    )


def _with_concepts(rows: ir.Table, tables: Tables) -> ir.Table:
    """Adds `vocabulary_id` and `concept_code`, null for a concept that isn't in the table, and for 0."""
    if "concept" not in tables:
        return rows.mutate(vocabulary_id=ibis.null("string"), concept_code=ibis.null("string"))
    concepts = tables.read("concept", ["concept_id", "vocabulary_id", "concept_code"])
    columns = ["vocabulary_id", "concept_code"]
    concepts = concepts.select(*columns, known_id=whole(concepts.concept_id))
    known = agreed(concepts.filter(concepts.known_id != "0"), "known_id", columns).select(
        "known_id", *columns
    )
    return rows.left_join(known, rows.concept_id == known.known_id).drop("known_id")


def _priority(condition_type: ir.StringValue, status: ir.StringValue) -> ir.StringValue:
    """1 for a visit's main condition, else the position on the claim, else null."""
    number = condition_type.try_cast("int64")
    return ibis.cases(
        (status.isin(_PRIMARY) | condition_type.isin(_PRIMARY), "1"),
        *(
            (number.between(first, first + count - 1), (number - (first - 1)).cast("string"))
            for first, count in _POSITIONS.items()
        ),
        else_=ibis.null("string"),
    )


def _visits(tables: Tables) -> ir.Table:
    visits = tables.read(
        "visit_occurrence", ["visit_occurrence_id", "person_id", "visit_start_date", "visit_end_date"]
    )
    return visits.select(
        visit_id=whole(visits.visit_occurrence_id),
        patient_id=whole(visits.person_id),
        admit_date="visit_start_date",
        discharge_date="visit_end_date",
    )


def _patients(tables: Tables) -> ir.Table:
    persons = tables.read(
        "person",
        ["person_id", "gender_concept_id", "year_of_birth"],
        optional=["month_of_birth", "day_of_birth", "birth_datetime", "gender_source_value"],
    )
    parts = [whole(persons.year_of_birth).lpad(4, "0")] + [
        whole(persons[name]).fill_null("1").lpad(2, "0") for name in ("month_of_birth", "day_of_birth")
    ]
    people = persons.select(
        patient_id=whole(persons.person_id),
        birth_date=persons.birth_datetime.coalesce(ibis.literal("-").join(parts)),
        sex=whole(persons.gender_concept_id).cases(*_SEXES.items(), else_=persons.gender_source_value),
    )
    for table, columns in _LIVES.items():
        if table in tables:
            people = _with_spans(people, tables.read(table, ["person_id", *columns]), columns)
    return people.mutate(
        **{name: ibis.null("string") for name in PATIENTS.names if name not in people.columns}
    )


def _with_spans(people: ir.Table, rows: ir.Table, columns: dict[str, tuple[str, str]]) -> ir.Table:
    """Adds the least or greatest values of a person's rows."""
    spans = rows.group_by(span_id=whole(rows.person_id)).aggregate(
        **{name: getattr(rows[column], extreme)() for column, (name, extreme) in columns.items()}
    )
    return people.left_join(spans, people.patient_id == spans.span_id).drop("span_id")
