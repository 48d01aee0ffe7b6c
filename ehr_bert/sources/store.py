"""A store of health records under common names, and its diagnoses joined to their visits."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import ibis
import ibis.expr.types as ir

from ehr_bert.codes import canonical
from ehr_bert.schemas import PATIENTS
from ehr_bert.sources.checks import ORDERING, RejectionReason, checked, day


class WithoutVisit(StrEnum):
    """What becomes of a diagnosis that names no visit."""

    REJECT = "reject"
    KEEP = "keep"


class NestedVisits(StrEnum):
    """What becomes of a visit whose days lie inside another of the same patient."""

    KEEP = "keep"
    MERGE = "merge"


@dataclass(frozen=True)
class Names:
    """Where a store keeps what a diagnosis needs, as `table.column`, for the reasons of rejections."""

    code: str
    patient_id: str
    visit_id: str
    admit_date: str
    discharge_date: str


@dataclass(frozen=True)
class Store:
    """The tables of a store. Every column is a string, null if empty; ids have one form in all tables.

    Attributes:
        names: Where things are.
        diagnoses: As `diagnosis_rows` makes them.
        visits: A row a visit: `visit_id`, `patient_id`, `admit_date`, `discharge_date`; without it the
            diagnoses have their days.
        patients: The columns of `PATIENTS`, any number of rows a patient; without it there are those that
            the diagnoses name.
        splits: `SPLITS`, where the store has them.
    """

    names: Names
    diagnoses: ir.Table
    visits: ir.Table | None = None
    patients: ir.Table | None = None
    splits: ir.Table | None = None


_DIAGNOSIS_FIELDS = (
    "patient_id",
    "visit_id",
    "admit_date",
    "discharge_date",
    "date",
    "code",
    "system",
    "system_name",
    "final_code",
    *ORDERING,
    "fault",
)


def diagnosis_rows(raw: ir.Table, record: Sequence[str], **fields: ir.StringValue) -> ir.Table:
    """The diagnoses of a store under common names.

    Args:
        raw: The store's table.
        record: Its columns that tell a row and not the patient: for messages.
        **fields: Of the table, those that there are of: `patient_id`; `visit_id`, or else `admit_date` and
            `discharge_date`; `date`, the diagnosis' own; `code` as written there, its `system`, a
            `CodeSystem`, and `system_name`, what the store calls it; `final_code`, which is taken as it is;
            the columns of `ORDERING`; `fault`, why the row is rejected.

    Returns:
        All these columns, null where not given; `record` and `row`, which show the row.
    """
    absent = {name: ibis.null("string") for name in _DIAGNOSIS_FIELDS if name not in fields}
    return raw.select(**fields, **absent, record=_shown(raw, record), row=_shown(raw, raw.columns))


def checked_diagnoses(store: Store, without_visit: WithoutVisit, nested: NestedVisits) -> ir.Table:
    """Every diagnosis of a store with its visit's days, checked: as many rows as the store has.

    Returns:
        The columns of `Diagnoses.rows`; `is_lone`, whether it is a one-day visit of its own; `is_nested`,
        whether its visit lies inside another and took that one's days; and `record` and `row`.
    """
    rows = _with_days(store, nested)
    rows = _with_canonical_codes(_with_patients(rows, store.patients))
    is_lone = rows.names_no_visit & (without_visit == WithoutVisit.KEEP)
    code = rows.final_code.coalesce(rows.canonical_code)
    fault = ibis.cases(
        (rows.fault.notnull(), rows.fault),
        (rows.patient_id.notnull() & ~rows.is_known, RejectionReason.UNKNOWN_PATIENT.value),
        (code.notnull() | rows.code.isnull(), ibis.null("string")),
        (
            rows.system.isnull(),
            ibis.literal(f"{RejectionReason.UNKNOWN_VOCABULARY}: ")
            + rows.system_name.fill_null("none named"),
        ),
        else_=ibis.literal(f"{RejectionReason.NOT_OF_SYSTEM} ") + rows.system,
    )
    visit_fault = ibis.cases(
        (is_lone, ibis.null("string")),
        (rows.names_no_visit, RejectionReason.NO_VISIT.value),
        else_=rows.visit_fault,
    )
    fields = rows.select(
        **{name: rows[name] for name in ("patient_id", *ORDERING, "is_nested", "record", "row")},
        admit_date=ibis.ifelse(is_lone, rows.date, rows.admit_date),
        discharge_date=ibis.ifelse(is_lone, rows.date, rows.discharge_date),
        code=code,
        is_lone=is_lone,
        fault=fault.coalesce(visit_fault),
    )
    typed = checked(fields, fields.fault).drop("fault")
    return typed.mutate(reason=_with_place(typed.reason, store.names))


def patient_rows(store: Store) -> ir.Table:
    """One row a patient; what a patient's rows disagree about is null.

    Returns:
        The columns of `PATIENTS`, and `conflicts`, how many of them are null for that reason.
    """
    columns = PATIENTS.names[1:]
    rows = store.patients
    if rows is None:
        rows = store.diagnoses.select("patient_id", **{name: ibis.null("string") for name in columns})
    typed = rows.filter(rows.patient_id.notnull()).mutate(
        sex=_sex(rows.sex), **{name: day(rows[name]) for name in columns if name != "sex"}
    )
    patients = agreed(typed, "patient_id", columns)
    conflicts = [patients[_differs(name)].cast("int32") for name in columns]
    return patients.select("patient_id", *columns, conflicts=sum(conflicts[1:], conflicts[0]))


def _with_days(store: Store, nested: NestedVisits) -> ir.Table:
    """Adds `admit_date`, `discharge_date`, `names_no_visit`, `visit_fault` and `is_nested`."""
    rows = store.diagnoses
    if store.visits is None:
        return rows.mutate(
            names_no_visit=rows.admit_date.isnull() & rows.discharge_date.isnull() & rows.date.notnull(),
            visit_fault=ibis.null("string"),
            is_nested=ibis.literal(False),
        )
    columns = ("patient_id", "admit_date", "discharge_date")
    visits = agreed(store.visits.filter(store.visits.visit_id.notnull()), "visit_id", columns)
    visits = _merged(visits) if nested == NestedVisits.MERGE else visits.mutate(is_nested=ibis.literal(False))
    visits = visits.rename(lambda name: f"visit_{name}")
    joined = rows.drop("admit_date", "discharge_date").left_join(
        visits, rows.visit_id == visits.visit_visit_id
    )
    differs = [joined[f"visit_{_differs(name)}"] for name in columns]
    return joined.mutate(
        admit_date=joined.visit_admit_date,
        discharge_date=joined.visit_discharge_date,
        names_no_visit=joined.visit_id.isnull(),
        visit_fault=ibis.cases(
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
    """Adds `is_known`, whether the patient stands among the patients."""
    if patients is None:
        return rows.mutate(is_known=ibis.literal(True))
    known = patients.select(known_id="patient_id").distinct()
    joined = rows.left_join(known, rows.patient_id == known.known_id)
    return joined.mutate(is_known=joined.known_id.notnull())


def _with_canonical_codes(rows: ir.Table) -> ir.Table:
    """Adds `canonical_code`, worked out once for each way of writing a code: there are few, of many rows."""
    written = rows.select(written="code", of="system").distinct()
    known = written.mutate(canonical_code=canonical(written.written, written.of))
    return rows.left_join(known, (rows.code == known.written) & (rows.system == known.of))


def agreed(rows: ir.Table, key: str, columns: Sequence[str]) -> ir.Table:
    """A row a key; what its rows disagree about is null, and `<column>_differs` says so."""
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


def _merged(visits: ir.Table) -> ir.Table:
    """Gives visits inside others the days of the last that is inside none, and adds `is_nested`.

    In the order of first day and falling last day, a visit that ends no later than one before it is inside
    the last that isn't.
    """
    first, last = (day(visits[name]).cast("string") for name in ("admit_date", "discharge_date"))
    is_span = (first <= last).fill_null(False)
    spans = visits.mutate(
        first=ibis.ifelse(is_span, first, ibis.null("string")),
        last=ibis.ifelse(is_span, last, ibis.null("string")),
    )

    def greatest(value: ir.StringValue, table: ir.Table, last_row: int) -> ir.StringValue:
        """The greatest value of a patient's rows up to the one that is `last_row` before this."""
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


def _with_place(reason: ir.StringValue, names: Names) -> ir.StringValue:
    """The reason, and the table and column at fault."""
    places = {
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
        *((reason == each.value, f"{each}: {place}") for each, place in places.items()), else_=reason
    )


def _sex(text: ir.StringValue) -> ir.StringValue:
    capitals = text.upper()
    return ibis.cases((capitals == "FEMALE", "F"), (capitals == "MALE", "M"), else_=capitals)


def _shown(raw: ir.Table, columns: Sequence[str]) -> ir.StringValue:
    return ibis.literal("\t").join([ibis.literal(f"{name}=") + raw[name].fill_null("") for name in columns])
