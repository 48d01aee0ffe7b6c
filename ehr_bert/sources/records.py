"""Records of a store under common names, and its diagnoses joined to their visits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa

from ehr_bert.codes import canonical
from ehr_bert.schemas import PATIENTS, SPLITS, ObservationEndReason
from ehr_bert.sources.checks import ORDERING, RejectionReason, check_rows
from ehr_bert.sources.times import day


class WithoutVisit(StrEnum):
    """How to treat a diagnosis without a visit id."""

    REJECT = "reject"
    KEEP = "keep"


class NestedVisits(StrEnum):
    """How to treat a visit whose days lie within another visit of the same patient."""

    KEEP = "keep"
    MERGE = "merge"


@dataclass(frozen=True)
class ColumnNames:
    """Columns of a store as `table.column`, which rejection reasons name."""

    code: str
    patient_id: str
    visit_id: str
    admit_date: str
    discharge_date: str


@dataclass(frozen=True)
class StoreRecords:
    """The records of a store, as its reader returns them.

    Every column is a string, null if empty. An id has the same spelling in all tables.

    Attributes:
        names: Columns that rejection reasons name.
        diagnoses: Diagnoses, as `diagnosis_rows` returns them.
        visits: One row per visit: `visit_id`, `patient_id`, `admit_date`, `discharge_date`. Without it the
            diagnoses have their own days.
        patients: The columns of `PATIENTS` that the store has, one or more rows per patient. Without it the
            patients are those of the diagnoses.
        splits: `SPLITS`, if the store defines them.
    """

    names: ColumnNames
    diagnoses: ir.Table
    visits: ir.Table | None = None
    patients: ir.Table | None = None
    splits: ir.Table | None = None


_VISIT_FIELDS = ("visit_id", "patient_id", "admit_date", "discharge_date")

_DIAGNOSIS_FIELDS = (
    "patient_id",
    "visit_id",
    "admit_date",
    "discharge_date",
    "date",
    "time",
    "code",
    "system",
    "system_name",
    "final_code",
    *ORDERING,
    "rejection",
)


def diagnosis_rows(raw: ir.Table, record: Sequence[str], **fields: ir.StringValue) -> ir.Table:
    """Return the diagnoses of a store under common names.

    Args:
        raw: Table of the store.
        record: Columns of `raw` that identify a row but not the patient, for error messages.
        **fields: Values by common name, where the store has them: `patient_id`; `visit_id`, or
            `admit_date` and `discharge_date`; `date` and `time`, the day and the time of the diagnosis
            itself; `code` as recorded, `system`, the `CodeSystem` of the code, and `system_name`, the name of
            the system in the store; `final_code`, which replaces `code` and is not normalised; the columns of
            `ORDERING`; `rejection`, the reason to reject the row.

    Returns:
        All of these columns, null where not given, and `record` and `row`, two descriptions of the row.
    """
    absent = {name: ibis.null("string") for name in _DIAGNOSIS_FIELDS if name not in fields}
    return raw.select(
        **fields, **absent, record=_description(raw, record), row=_description(raw, raw.columns)
    )


def wrong_columns(records: StoreRecords) -> str | None:
    """Return which columns of the records are missing or not strings, None if all are as they should be."""
    tables = {
        "diagnoses": (records.diagnoses, (*_DIAGNOSIS_FIELDS, "record", "row")),
        "visits": (records.visits, _VISIT_FIELDS),
        "patients": (records.patients, ("patient_id",)),
        "splits": (records.splits, SPLITS.names),
    }
    for name, (table, columns) in tables.items():
        if table is None and name != "diagnoses":
            continue
        if not isinstance(table, ir.Table):
            return f"returned {name} of type {type(table).__name__}, not an Ibis table"
        types = table.schema()
        if missing := [column for column in columns if column not in types]:
            return f"returned {name} without the columns {', '.join(missing)}"
        known = {*columns, *PATIENTS.names} & set(types)
        wrong = [f"{column} ({types[column]})" for column in sorted(known) if not _is_text(types[column])]
        if wrong:
            return f"returned columns of {name} that are not strings: {', '.join(wrong)}"
    return None


def _is_text(type_: dt.DataType) -> bool:
    return type_.is_string() or type_.is_null()


def checked_diagnoses(records: StoreRecords, without_visit: WithoutVisit, nested: NestedVisits) -> ir.Table:
    """Check every diagnosis of a store and add the days of its visit. The number of rows does not change.

    Returns:
        The columns of `CheckedEvents.rows`; `is_one_day_visit`, whether the diagnosis has no visit and
        became a one-day visit; `is_nested`, whether its visit lies within another and was given its days;
        and `record` and `row`.
    """
    rows = _with_days(records, nested)
    rows = _with_canonical_codes(_with_patients(rows, records.patients))
    is_one_day_visit = rows.names_no_visit & (without_visit == WithoutVisit.KEEP)
    code = rows.final_code.coalesce(rows.canonical_code)
    rejection = ibis.cases(
        (rows.rejection.notnull(), rows.rejection),
        (rows.patient_id.notnull() & ~rows.is_known, RejectionReason.UNKNOWN_PATIENT.value),
        (code.notnull() | rows.code.isnull(), ibis.null("string")),
        (
            rows.system.isnull(),
            ibis.literal(f"{RejectionReason.UNKNOWN_VOCABULARY}: ")
            + rows.system_name.fill_null("none named"),
        ),
        else_=ibis.literal(f"{RejectionReason.NOT_OF_SYSTEM} ") + rows.system,
    )
    visit_rejection = ibis.cases(
        (is_one_day_visit, ibis.null("string")),
        (rows.names_no_visit, RejectionReason.NO_VISIT.value),
        else_=rows.visit_rejection,
    )
    own_day = rows.date.coalesce(rows.time)
    fields = rows.select(
        **{name: rows[name] for name in ("patient_id", *ORDERING, "date", "time")},
        **{name: rows[name] for name in ("is_nested", "record", "row")},
        admit_date=ibis.ifelse(is_one_day_visit, own_day, rows.admit_date),
        discharge_date=ibis.ifelse(is_one_day_visit, own_day, rows.discharge_date),
        code=code,
        is_one_day_visit=is_one_day_visit,
        rejection=rejection.coalesce(visit_rejection),
    )
    typed = check_rows(fields, fields.rejection).drop("rejection")
    return typed.mutate(reason=_with_column(typed.reason, records.names))


def patient_rows(records: StoreRecords, extraction_date: date | None = None) -> ir.Table:
    """Return one row per patient, with values that do not contradict each other.

    A value in which a patient's rows differ is null. If observation starts after its end, both days are null;
    if death precedes birth, both are null. A reason for the end of observation is null if the end is null.

    Args:
        records: Records of the store.
        extraction_date: Last day that the store covers. Observation ends on this day, or on an earlier day
            that the store states.

    Returns:
        The columns of `PATIENTS`, and `conflicts`, the number of values that are null because of a conflict.
    """
    columns = PATIENTS.names[1:]
    rows = records.diagnoses.select("patient_id") if records.patients is None else records.patients
    rows = rows.mutate(**{name: ibis.null("string") for name in columns if name not in rows.columns})
    typed = rows.filter(rows.patient_id.notnull()).mutate(
        sex=_sex(rows.sex),
        **{name: day(rows[name]) for name in columns if pa.types.is_date(PATIENTS.field(name).type)},
    )
    patients = one_row_per_key(typed, "patient_id", columns)
    conflicts = [patients[_differs(name)].cast("int32") for name in columns]
    counted = patients.select("patient_id", *columns, conflicts=sum(conflicts[1:], conflicts[0]))
    if extraction_date is not None:
        counted = _observed_until(counted, extraction_date)
    for earlier, later in (("observation_start", "observation_end"), ("birth_date", "death_date")):
        is_conflict = (counted[earlier] > counted[later]).fill_null(False)
        counted = counted.mutate(
            **{name: ibis.ifelse(is_conflict, ibis.null("date"), counted[name]) for name in (earlier, later)},
            conflicts=counted.conflicts + ibis.ifelse(is_conflict, 2, 0),
        )
    return with_reasons_of_ends(counted)


def _observed_until(patients: ir.Table, extraction_date: date) -> ir.Table:
    """End the observation on the day of extraction, unless it ends earlier."""
    end, reason = patients.observation_end, patients.observation_end_reason
    is_observed = end.isnull() | (end > extraction_date)
    return patients.mutate(
        observation_end=ibis.ifelse(is_observed, ibis.literal(extraction_date), end),
        observation_end_reason=ibis.ifelse(is_observed, ObservationEndReason.EXTRACTION.value, reason),
    )


def with_reasons_of_ends(patients: ir.Table) -> ir.Table:
    """Return `PATIENTS` without the reasons for an end of observation that is unknown."""
    return patients.mutate(
        observation_end_reason=ibis.ifelse(
            patients.observation_end.isnull(), ibis.null("string"), patients.observation_end_reason
        )
    )


def _with_days(records: StoreRecords, nested: NestedVisits) -> ir.Table:
    """Add `admit_date`, `discharge_date`, `names_no_visit`, `visit_rejection` and `is_nested`."""
    rows = records.diagnoses
    if records.visits is None:
        return rows.mutate(
            names_no_visit=rows.admit_date.isnull()
            & rows.discharge_date.isnull()
            & rows.date.coalesce(rows.time).notnull(),
            visit_rejection=ibis.null("string"),
            is_nested=ibis.literal(False),
        )
    columns = ("patient_id", "admit_date", "discharge_date")
    visits = one_row_per_key(records.visits.filter(records.visits.visit_id.notnull()), "visit_id", columns)
    visits = (
        _merge_nested(visits)
        if nested == NestedVisits.MERGE
        else visits.mutate(is_nested=ibis.literal(False))
    )
    visits = visits.rename(lambda name: f"visit_{name}")
    joined = rows.drop("admit_date", "discharge_date").left_join(
        visits, rows.visit_id == visits.visit_visit_id
    )
    differs = [joined[f"visit_{_differs(name)}"] for name in columns]
    return joined.mutate(
        admit_date=joined.visit_admit_date,
        discharge_date=joined.visit_discharge_date,
        names_no_visit=joined.visit_id.isnull(),
        visit_rejection=ibis.cases(
            (joined.visit_visit_id.isnull(), RejectionReason.UNKNOWN_VISIT.value),
            (differs[0] | differs[1] | differs[2], RejectionReason.AMBIGUOUS_VISIT.value),
            (joined.visit_patient_id != joined.patient_id, RejectionReason.OTHER_PATIENT.value),
            else_=ibis.null("string"),
        ),
        is_nested=joined.visit_is_nested.fill_null(False),
        row=joined.row
        + "\t"
        + ibis.literal("\t").join(
            [ibis.literal(f"{name}=") + joined[f"visit_{name}"].fill_null("") for name in columns]
        ),
    )


def _with_patients(rows: ir.Table, patients: ir.Table | None) -> ir.Table:
    """Add `is_known`, whether the patient table contains the patient."""
    if patients is None:
        return rows.mutate(is_known=ibis.literal(True))
    known = patients.select(known_id="patient_id").distinct()
    joined = rows.left_join(known, rows.patient_id == known.known_id)
    return joined.mutate(is_known=joined.known_id.notnull())


def _with_canonical_codes(rows: ir.Table) -> ir.Table:
    """Add `canonical_code`, computed once per distinct spelling, of which there are few."""
    written = rows.select(written="code", of="system").distinct()
    known = written.mutate(canonical_code=canonical(written.written, written.of))
    return rows.left_join(known, (rows.code == known.written) & (rows.system == known.of))


def one_row_per_key(rows: ir.Table, key: str, columns: Sequence[str]) -> ir.Table:
    """Return one row per key. A value in which its rows differ is null, and `<column>_differs` is true."""
    spans = rows.group_by(key).aggregate(
        **{f"{name}_least": rows[name].min() for name in columns},
        **{f"{name}_most": rows[name].max() for name in columns},
    )
    differs = {name: (spans[f"{name}_least"] != spans[f"{name}_most"]).fill_null(False) for name in columns}
    return spans.select(
        key,
        **{
            name: ibis.ifelse(differs[name], ibis.null(rows[name].type()), spans[f"{name}_least"])
            for name in columns
        },
        **{_differs(name): differs[name] for name in columns},
    )


def _differs(column: str) -> str:
    return f"{column}_differs"


def _merge_nested(visits: ir.Table) -> ir.Table:
    """Give each nested visit the days of the enclosing visit, and add `is_nested`.

    Visits are sorted by first day, and by last day in descending order. A visit that ends no later than an
    earlier one is nested. The enclosing visit is the last one before it that is not nested.
    """
    first, last = (day(visits[name]).cast("string") for name in ("admit_date", "discharge_date"))
    is_span = (first <= last).fill_null(False)
    spans = visits.mutate(
        first=ibis.ifelse(is_span, first, ibis.null("string")),
        last=ibis.ifelse(is_span, last, ibis.null("string")),
    )

    def greatest(value: ir.StringValue, table: ir.Table, last_row: int) -> ir.StringValue:
        """Return the greatest value of the patient's rows, up to `last_row` rows before the current one."""
        return value.max().over(
            ibis.window(
                group_by=table.patient_id,
                order_by=[table.first, table.last.desc(), table.visit_id],
                preceding=(None, last_row),
            )
        )

    spans = spans.mutate(is_inside=(greatest(spans.last, spans, 1) >= spans.last).fill_null(False))
    outer = spans.mutate(
        outer_first=greatest(ibis.ifelse(spans.is_inside, ibis.null("string"), spans.first), spans, 0),
        outer_last=greatest(spans.last, spans, 0),
    )
    return outer.select(
        *(name for name in visits.columns if name not in ("admit_date", "discharge_date")),
        admit_date=ibis.ifelse(outer.is_inside, outer.outer_first, outer.admit_date),
        discharge_date=ibis.ifelse(outer.is_inside, outer.outer_last, outer.discharge_date),
        is_nested=outer.is_inside & ((outer.first != outer.outer_first) | (outer.last != outer.outer_last)),
    )


def _with_column(reason: ir.StringValue, names: ColumnNames) -> ir.StringValue:
    """Add the table and column that cause the rejection to the reason."""
    columns = {
        RejectionReason.NO_CODE: names.code,
        RejectionReason.ADMIT_DATE: names.admit_date,
        RejectionReason.DISCHARGE_DATE: names.discharge_date,
        RejectionReason.NEGATIVE_STAY: names.discharge_date,
        RejectionReason.UNKNOWN_PATIENT: names.patient_id,
        RejectionReason.NO_VISIT: names.visit_id,
        RejectionReason.UNKNOWN_VISIT: names.visit_id,
        RejectionReason.AMBIGUOUS_VISIT: names.visit_id,
        RejectionReason.OTHER_PATIENT: names.visit_id,
    }
    return ibis.cases(
        *((reason == known.value, f"{known}: {column}") for known, column in columns.items()), else_=reason
    )


def _sex(text: ir.StringValue) -> ir.StringValue:
    capitals = text.upper()
    return ibis.cases((capitals == "FEMALE", "F"), (capitals == "MALE", "M"), else_=capitals)


def _description(raw: ir.Table, columns: Sequence[str]) -> ir.StringValue:
    return ibis.literal("\t").join([ibis.literal(f"{name}=") + raw[name].fill_null("") for name in columns])
