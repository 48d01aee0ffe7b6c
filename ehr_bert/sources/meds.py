"""MEDS 0.4: events of subjects, which include diagnoses, admissions and discharges."""

import re

import ibis
import ibis.expr.types as ir

from ehr_bert.codes.naming import system_by_shape, system_named
from ehr_bert.errors import UserError
from ehr_bert.schemas import Split
from ehr_bert.sources.records import ColumnNames, StoreRecords, diagnosis_rows
from ehr_bert.sources.store import Store, StoreOption
from ehr_bert.sources.tables import RawTables

DIAGNOSIS_PATTERN = "^(DIAGNOSIS|CONDITION)//|^(ICD9CM|ICD10CM|ICD10|SNOMED)/"
"""Default regular expression for the codes of diagnoses."""

_ADMISSION, _DISCHARGE = "^HOSPITAL_ADMISSION(//|$)", "^HOSPITAL_DISCHARGE(//|$)"
_BIRTH, _DEATH, _SEX = "^MEDS_BIRTH(//|$)", "^MEDS_DEATH(//|$)", "^(GENDER|SEX)//"
_VISIT_IDS = ("hadm_id", "visit_id", "visit_occurrence_id", "encounter_id")
_SPLITS = {"train": Split.TRAIN, "tuning": Split.VALID, "held_out": Split.TEST}


def read_meds(tables: RawTables, diagnoses: str = DIAGNOSIS_PATTERN) -> StoreRecords:
    """Read `data` and, if it exists, `subject_splits`.

    The last part of a code is the diagnosis code. The part before it names the code system. If the data have
    a column of visit ids, a visit consists of the events of one id, from admission to discharge if these
    events exist. Otherwise a diagnosis belongs to the stay that is open at its time.

    Args:
        tables: Tables of the data set.
        diagnoses: Regular expression for the codes of diagnoses.

    Raises:
        UserError: `diagnoses` is not a regular expression (key `invalid-pattern`), or a table or column is
            missing (keys `missing-table`, `missing-column`).
    """
    try:
        re.compile(diagnoses)
    except re.error as error:
        raise UserError(
            "invalid-pattern", f"--diagnoses {diagnoses} is not a regular expression: {error}. Correct it."
        ) from error
    visit_ids = [name for name in _VISIT_IDS if name in tables.columns("data")]
    events = tables.read("data", ["subject_id", "time", "code", *visit_ids])
    if visit_ids:
        rows = events.filter(events.code.re_search(diagnoses))
        days = {"visit_id": _visit_id(rows)}
    else:
        rows = _within_stays(events, diagnoses)
        days = {"admit_date": rows.admit_date, "discharge_date": rows.discharge_date}
    system_name = rows.code.re_replace("/+[^/]*$", "")
    return StoreRecords(
        names=ColumnNames(
            "data.code", "data.subject_id", f"data.{(visit_ids or ['time'])[0]}", "data.time", "data.time"
        ),
        diagnoses=diagnosis_rows(
            rows,
            record=("time", "code"),
            patient_id=rows.subject_id,
            date=rows.time,
            time=rows.time,
            code=rows.code.re_replace("^.*/", ""),
            system=ibis.ifelse(
                rows.code.contains("/"), system_named(system_name), system_by_shape(rows.code)
            ),
            system_name=system_name,
            **days,
        ),
        visits=_visits(events) if visit_ids else None,
        patients=_patients(events),
        splits=_splits(tables) if "subject_splits" in tables else None,
    )


def _visit_id(events: ir.Table) -> ir.StringValue:
    return ibis.coalesce(*(events[name] for name in _VISIT_IDS if name in events.columns))


def _time_of(events: ir.Table, pattern: str) -> ir.StringValue:
    """Return the time of each event whose code matches, else null."""
    return ibis.ifelse(events.code.re_search(pattern), events.time, ibis.null("string"))


def _visits(events: ir.Table) -> ir.Table:
    timed = events.mutate(visit_id=_visit_id(events))
    timed = timed.filter(timed.visit_id.notnull())
    return timed.group_by("visit_id", patient_id=timed.subject_id).aggregate(
        admit_date=_time_of(timed, _ADMISSION).min().coalesce(timed.time.min()),
        discharge_date=_time_of(timed, _DISCHARGE).max().coalesce(timed.time.max()),
    )


def _within_stays(events: ir.Table, diagnoses: str) -> ir.Table:
    """Return the diagnoses with `admit_date` and `discharge_date` of the stay that is open at their time.

    Events are sorted by time; at equal times admissions come first and discharges last. A stay is open after
    an admission without a later discharge, and ends with the next discharge. The days are null if no stay is
    open.
    """
    marked = events.mutate(
        event_order=ibis.cases(
            (events.code.re_search(_ADMISSION), 0),
            (events.code.re_search(_DISCHARGE), 2),
            (events.code.re_search(diagnoses), 1),
            else_=ibis.null("int8"),
        )
    )
    marked = marked.filter(marked.event_order.notnull())
    admitted, discharged = _time_of(marked, _ADMISSION), _time_of(marked, _DISCHARGE)
    order = {"group_by": marked.subject_id, "order_by": [marked.time, marked.event_order]}
    open_since = admitted.max().over(ibis.window(preceding=None, following=0, **order))
    last_discharge = discharged.max().over(ibis.window(preceding=(None, 1), **order))
    ends_at = discharged.min().over(ibis.window(preceding=0, following=None, **order))
    stays = marked.mutate(open_since=open_since, last_discharge=last_discharge, ends_at=ends_at)
    is_open = (
        (stays.open_since > stays.last_discharge.fill_null(""))
        & stays.ends_at.notnull()
        & stays.time.notnull()
    ).fill_null(False)
    return stays.filter(stays.event_order == 1).select(
        "subject_id",
        "time",
        "code",
        admit_date=ibis.ifelse(is_open, stays.open_since, ibis.null("string")),
        discharge_date=ibis.ifelse(is_open, stays.ends_at, ibis.null("string")),
    )


def _patients(events: ir.Table) -> ir.Table:
    sex = ibis.ifelse(events.code.re_search(_SEX), events.code.re_replace("^.*/", ""), ibis.null("string"))
    return events.group_by(patient_id=events.subject_id).aggregate(
        birth_date=_time_of(events, _BIRTH).min(),
        sex=ibis.ifelse(sex.min() == sex.max(), sex.min(), ibis.null("string")),
        death_date=_time_of(events, _DEATH).min(),
    )


def _splits(tables: RawTables) -> ir.Table:
    splits = tables.read("subject_splits", ["subject_id", "split"])
    names = [(splits.split == name, split.value) for name, split in _SPLITS.items()]
    return splits.select(patient_id="subject_id", split=ibis.cases(*names, else_=splits.split))


MEDS = Store(
    name="meds",
    title="MEDS 0.4",
    read=read_meds,
    tables=("data",),
    optional_tables=("subject_splits",),
    options=(
        StoreOption(
            "diagnoses",
            metavar="REGEX",
            help="regular expression for the codes of diagnoses; docs/stores.md shows the default",
        ),
    ),
)
