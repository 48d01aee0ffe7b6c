"""MEDS 0.4: events of subjects, among them diagnoses, admissions and discharges."""

import re

import ibis
import ibis.expr.types as ir

from ehr_bert.codes.naming import system_by_shape, system_named
from ehr_bert.errors import UserError
from ehr_bert.schemas import Split
from ehr_bert.sources.store import Names, Store, diagnosis_rows
from ehr_bert.sources.tables import Tables

DIAGNOSIS = "^(DIAGNOSIS|CONDITION)//|^(ICD9CM|ICD10CM|ICD10|SNOMED)/"
"""What the code of a diagnosis matches, unless told otherwise."""

_ADMISSION, _DISCHARGE = "^HOSPITAL_ADMISSION(//|$)", "^HOSPITAL_DISCHARGE(//|$)"
_BIRTH, _DEATH, _SEX = "^MEDS_BIRTH(//|$)", "^MEDS_DEATH(//|$)", "^(GENDER|SEX)//"
_VISIT_IDS = ("hadm_id", "visit_id", "visit_occurrence_id", "encounter_id")
_SPLITS = {"train": Split.TRAIN, "tuning": Split.VALID, "held_out": Split.TEST}


def read_meds(tables: Tables, diagnosis: str = DIAGNOSIS) -> Store:
    """Reads `data` and, where it is, `subject_splits`.

    A code's last part is the diagnosis, what stands before it names the system. A visit is the events of one
    visit id, where the data has such a column, from admission to discharge where there are such events;
    otherwise a diagnosis belongs to the stay that is open at its time.

    Args:
        tables: The data set.
        diagnosis: A regular expression that finds the codes of diagnoses.

    Raises:
        UserError: `diagnosis` isn't a regular expression, or a table or column lacks.
    """
    try:
        re.compile(diagnosis)
    except re.error as error:
        raise UserError(f"{diagnosis} is no regular expression: {error}") from error
    visit_ids = [name for name in _VISIT_IDS if name in tables.columns("data")]
    events = tables.read("data", ["subject_id", "time", "code", *visit_ids])
    if visit_ids:
        diagnoses = events.filter(events.code.re_search(diagnosis))
        days = {"visit_id": _visit_id(diagnoses)}
    else:
        diagnoses = _inside_stays(events, diagnosis)
        days = {"admit_date": diagnoses.admit_date, "discharge_date": diagnoses.discharge_date}
    system_name = diagnoses.code.re_replace("/+[^/]*$", "")
    return Store(
        names=Names(
            "data.code", "data.subject_id", f"data.{(visit_ids or ['time'])[0]}", "data.time", "data.time"
        ),
        diagnoses=diagnosis_rows(
            diagnoses,
            record=("time", "code"),
            patient_id=diagnoses.subject_id,
            date=diagnoses.time,
            code=diagnoses.code.re_replace("^.*/", ""),
            system=ibis.ifelse(
                diagnoses.code.contains("/"), system_named(system_name), system_by_shape(diagnoses.code)
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


def _when(events: ir.Table, pattern: str) -> ir.StringValue:
    """The time of an event whose code matches."""
    return ibis.ifelse(events.code.re_search(pattern), events.time, ibis.null("string"))


def _visits(events: ir.Table) -> ir.Table:
    timed = events.mutate(visit_id=_visit_id(events))
    timed = timed.filter(timed.visit_id.notnull())
    return timed.group_by("visit_id", patient_id=timed.subject_id).aggregate(
        admit_date=_when(timed, _ADMISSION).min().coalesce(timed.time.min()),
        discharge_date=_when(timed, _DISCHARGE).max().coalesce(timed.time.max()),
    )


def _inside_stays(events: ir.Table, diagnosis: str) -> ir.Table:
    """The diagnoses with `admit_date` and `discharge_date` of the stay that is open at their time, or null.

    In the order of time, with admissions first and discharges last, a stay is open if there has been an
    admission and since then no discharge; it ends with the next discharge.
    """
    marked = events.mutate(
        place=ibis.cases(
            (events.code.re_search(_ADMISSION), 0),
            (events.code.re_search(_DISCHARGE), 2),
            (events.code.re_search(diagnosis), 1),
            else_=ibis.null("int8"),
        )
    )
    marked = marked.filter(marked.place.notnull())
    admitted, discharged = _when(marked, _ADMISSION), _when(marked, _DISCHARGE)
    order = {"group_by": marked.subject_id, "order_by": [marked.time, marked.place]}
    open_since = admitted.max().over(ibis.window(preceding=None, following=0, **order))
    left_at = discharged.max().over(ibis.window(preceding=(None, 1), **order))
    ends_at = discharged.min().over(ibis.window(preceding=0, following=None, **order))
    stays = marked.mutate(open_since=open_since, left_at=left_at, ends_at=ends_at)
    is_open = (
        (stays.open_since > stays.left_at.fill_null("")) & stays.ends_at.notnull() & stays.time.notnull()
    ).fill_null(False)
    return stays.filter(stays.place == 1).select(
        "subject_id",
        "time",
        "code",
        admit_date=ibis.ifelse(is_open, stays.open_since, ibis.null("string")),
        discharge_date=ibis.ifelse(is_open, stays.ends_at, ibis.null("string")),
    )


def _patients(events: ir.Table) -> ir.Table:
    sex = ibis.ifelse(events.code.re_search(_SEX), events.code.re_replace("^.*/", ""), ibis.null("string"))
    lived = ibis.ifelse(events.code.re_search(_BIRTH), ibis.null("string"), events.time)
    return events.group_by(patient_id=events.subject_id).aggregate(
        birth_date=_when(events, _BIRTH).min(),
        sex=ibis.ifelse(sex.min() == sex.max(), sex.min(), ibis.null("string")),
        death_date=_when(events, _DEATH).min(),
        observation_start=lived.min(),
        observation_end=lived.max(),
    )


def _splits(tables: Tables) -> ir.Table:
    splits = tables.read("subject_splits", ["subject_id", "split"])
    names = [(splits.split == name, split.value) for name, split in _SPLITS.items()]
    return splits.select(patient_id="subject_id", split=ibis.cases(*names, else_=splits.split))
