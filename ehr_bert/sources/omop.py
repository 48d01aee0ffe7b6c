"""The OMOP common data model 5.3 and 5.4: conditions and the visits in which they were recorded."""

from collections.abc import Sequence
from enum import StrEnum

import ibis
import ibis.expr.types as ir

from ehr_bert.codes import CodeSystem
from ehr_bert.codes.naming import system_by_shape, system_named
from ehr_bert.schemas import PATIENTS, ObservationEndReason
from ehr_bert.sources.checks import RejectionReason
from ehr_bert.sources.records import ColumnNames, StoreRecords, diagnosis_rows, one_row_per_key
from ehr_bert.sources.store import Store, StoreOption
from ehr_bert.sources.tables import RawTables, without_decimals

OMOP_PREFIX = "OMOP_"
"""Prefix of a standard concept that is not a code of a `CodeSystem`. The concept id follows it."""


class OmopCodes(StrEnum):
    """Codes of a condition to use: the source codes or the standard concepts."""

    SOURCE = "source"
    STANDARD = "standard"


_SEXES = {"8507": "M", "8532": "F"}

_SPANS = {
    "death": {"death_date": ("death_date", "min")},
    "observation_period": {
        "observation_period_start_date": ("observation_start", "min"),
        "observation_period_end_date": ("observation_end", "max"),
    },
}
"""By table and column, the column of `PATIENTS` that it provides, and how a person's rows are aggregated."""

_PRIMARY = ("32901", "32902", "32903", "44786627")
"""Concept ids of the statuses and types of a primary diagnosis."""

_POSITIONS = {38000183: 16, 38000199: 16, 38000215: 15, 38000230: 15}
"""Condition types that give the position on a claim: number of positions by concept id of the first."""


def read_omop(
    tables: RawTables,
    codes: OmopCodes = OmopCodes.SOURCE,
    condition_types: Sequence[str] = (),
    source_vocabulary: CodeSystem | None = None,
) -> StoreRecords:
    """Read `condition_occurrence`, `visit_occurrence` and `person`.

    `concept`, `death`, `observation_period` and `visit_detail` are read if they exist.

    Args:
        tables: Tables of the store.
        codes: Whether to use source codes or standard concepts.
        condition_types: Values of `condition_type_concept_id` to extract. By default all are extracted.
        source_vocabulary: System of source codes whose concept is not in `concept`. By default it is derived
            from the shape of the code.

    Raises:
        UserError: A table or column is missing (keys `missing-table`, `missing-column`).
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
        optional=["condition_start_datetime", "visit_detail_id", "condition_status_concept_id"],
    )
    is_source = codes == OmopCodes.SOURCE
    concept_id = without_decimals(raw.condition_source_concept_id if is_source else raw.condition_concept_id)
    rows = _with_visit_of_detail(raw.mutate(concept_id=concept_id), tables)
    rows = _with_concepts(rows, tables)
    condition_type = without_decimals(rows.condition_type_concept_id)
    is_excluded = ~condition_type.isin(condition_types) if condition_types else ibis.literal(False)
    rejection = ibis.ifelse(is_excluded, RejectionReason.CONDITION_TYPE.value, ibis.null("string"))
    system = system_named(rows.vocabulary_id)
    if is_source:
        code = rows.concept_code.coalesce(rows.condition_source_value)
        system_without_concept = (
            ibis.literal(source_vocabulary.value) if source_vocabulary else system_by_shape(code)
        )
        coding = {
            "code": code,
            "system": ibis.ifelse(rows.vocabulary_id.isnull(), system_without_concept, system),
            "system_name": rows.vocabulary_id,
        }
    else:
        rejection = rejection.coalesce(
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
    return StoreRecords(
        names=ColumnNames(
            code=f"condition_occurrence.condition_{'source_value' if is_source else 'concept_id'}",
            patient_id="person.person_id",
            visit_id="visit_occurrence.visit_occurrence_id",
            admit_date="visit_occurrence.visit_start_date",
            discharge_date="visit_occurrence.visit_end_date",
        ),
        diagnoses=diagnosis_rows(
            rows,
            record=("condition_occurrence_id",),
            patient_id=without_decimals(rows.person_id),
            visit_id=without_decimals(rows.visit_occurrence_id),
            date=rows.condition_start_date,
            time=rows.condition_start_datetime,
            priority=_priority(condition_type, without_decimals(rows.condition_status_concept_id)),
            rejection=rejection,
            **coding,
        ),
        visits=_visits(tables),
        patients=_patients(tables),
    )


def _with_visit_of_detail(rows: ir.Table, tables: RawTables) -> ir.Table:
    """Add the visit of the `visit_detail` to conditions that only name the detail."""
    if "visit_detail" not in tables:
        return rows
    details = tables.read("visit_detail", ["visit_detail_id", "visit_occurrence_id"])
    details = details.select(
        detail_id=without_decimals(details.visit_detail_id), detail_visit=details.visit_occurrence_id
    )
    visit_of = one_row_per_key(details, "detail_id", ["detail_visit"]).select("detail_id", "detail_visit")
    joined = rows.left_join(visit_of, without_decimals(rows.visit_detail_id) == visit_of.detail_id)
    return joined.mutate(visit_occurrence_id=joined.visit_occurrence_id.coalesce(joined.detail_visit)).drop(
        "detail_id", "detail_visit"
    )


def _with_concepts(rows: ir.Table, tables: RawTables) -> ir.Table:
    """Add `vocabulary_id` and `concept_code`, null for concept 0 and for unknown concepts."""
    if "concept" not in tables:
        return rows.mutate(vocabulary_id=ibis.null("string"), concept_code=ibis.null("string"))
    concepts = tables.read("concept", ["concept_id", "vocabulary_id", "concept_code"])
    columns = ["vocabulary_id", "concept_code"]
    concepts = concepts.select(*columns, known_id=without_decimals(concepts.concept_id))
    known = one_row_per_key(concepts.filter(concepts.known_id != "0"), "known_id", columns).select(
        "known_id", *columns
    )
    return rows.left_join(known, rows.concept_id == known.known_id).drop("known_id")


def _priority(condition_type: ir.StringValue, status: ir.StringValue) -> ir.StringValue:
    """Return 1 for a primary diagnosis, else the position on the claim, else null."""
    number = condition_type.try_cast("int64")
    return ibis.cases(
        (status.isin(_PRIMARY) | condition_type.isin(_PRIMARY), "1"),
        *(
            (number.between(first, first + count - 1), (number - (first - 1)).cast("string"))
            for first, count in _POSITIONS.items()
        ),
        else_=ibis.null("string"),
    )


def _visits(tables: RawTables) -> ir.Table:
    visits = tables.read(
        "visit_occurrence", ["visit_occurrence_id", "person_id", "visit_start_date", "visit_end_date"]
    )
    return visits.select(
        visit_id=without_decimals(visits.visit_occurrence_id),
        patient_id=without_decimals(visits.person_id),
        admit_date="visit_start_date",
        discharge_date="visit_end_date",
    )


def _patients(tables: RawTables) -> ir.Table:
    persons = tables.read(
        "person",
        ["person_id", "gender_concept_id", "year_of_birth"],
        optional=["month_of_birth", "day_of_birth", "birth_datetime", "gender_source_value"],
    )
    year = without_decimals(persons.year_of_birth).lpad(4, "0")
    month, day = (
        without_decimals(persons[name]).fill_null("1").lpad(2, "0")
        for name in ("month_of_birth", "day_of_birth")
    )
    sex = without_decimals(persons.gender_concept_id)
    patients = persons.select(
        patient_id=without_decimals(persons.person_id),
        birth_date=persons.birth_datetime.coalesce(ibis.literal("-").join([year, month, day])),
        sex=sex.cases(*_SEXES.items(), else_=persons.gender_source_value),
    )
    for table, columns in _SPANS.items():
        if table in tables:
            patients = _with_spans(patients, tables.read(table, ["person_id", *columns]), columns)
    patients = patients.mutate(
        **{name: ibis.null("string") for name in PATIENTS.names if name not in patients.columns}
    )
    reason = ibis.literal(ObservationEndReason.OBSERVATION_PERIOD.value)
    return patients.mutate(
        observation_end_reason=ibis.ifelse(patients.observation_end.isnull(), ibis.null("string"), reason)
    )


def _with_spans(patients: ir.Table, rows: ir.Table, columns: dict[str, tuple[str, str]]) -> ir.Table:
    """Add the smallest or greatest values of the rows of each person."""
    spans = rows.group_by(span_id=without_decimals(rows.person_id)).aggregate(
        **{name: getattr(rows[column], extreme)() for column, (name, extreme) in columns.items()}
    )
    return patients.left_join(spans, patients.patient_id == spans.span_id).drop("span_id")


def _ids(text: str) -> list[str]:
    return [number.strip() for number in text.split(",") if number.strip()]


OMOP = Store(
    name="omop",
    title="OMOP common data model 5.3 and 5.4",
    read=read_omop,
    tables=("condition_occurrence", "visit_occurrence", "person"),
    optional_tables=("concept", "visit_detail", "death", "observation_period"),
    options=(
        StoreOption(
            "codes",
            choices=OmopCodes,
            convert=OmopCodes,
            help="use the source codes (the default) or the standard concepts",
        ),
        StoreOption(
            "condition_types",
            metavar="ID,...",
            convert=_ids,
            help="extract only conditions with these values of condition_type_concept_id",
        ),
        StoreOption(
            "source_vocabulary",
            choices=CodeSystem,
            convert=CodeSystem,
            help="code system of source codes that have no row in the concept table; by default it is "
            "derived from the shape of the code",
        ),
    ),
)
