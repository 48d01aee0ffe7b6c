"""Schemas of the tables that the stages exchange. `docs/formats.md` documents them."""

from enum import StrEnum

import pyarrow as pa


class SpecialToken(StrEnum):
    """Special tokens, in the order of their ids in a new vocabulary."""

    PAD = "[PAD]"
    UNK = "[UNK]"
    CLS = "[CLS]"
    SEP = "[SEP]"
    MASK = "[MASK]"


class ContextKind(StrEnum):
    """Kinds of optional tokens that precede the codes of a visit, in this order."""

    SEX = "sex"
    AGE = "age"
    GAP = "gap"

    @property
    def prefix(self) -> str:
        """Prefix of the tokens of this kind, such as `AGE_`. No code system has such a prefix."""
        return f"{self.upper()}_"


def is_context(token: str) -> bool:
    """Return whether a token describes the patient or the visit and is not a code."""
    return token.startswith(tuple(kind.prefix for kind in ContextKind))


class Split(StrEnum):
    """Training, validation and test patients."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


class EventKind(StrEnum):
    """Kinds of events, in the order in which a visit lists them."""

    DIAGNOSIS = "diagnosis"
    PROCEDURE = "procedure"
    MEDICATION = "medication"
    LAB = "lab"
    VITAL = "vital"
    CHART = "chart"
    OTHER = "other"


class ObservationEndReason(StrEnum):
    """Reason why the observation of a patient ends. Each is administrative; death is not one of them."""

    EXTRACTION = "extraction"
    """The records were extracted, or the study ended."""

    ENROLMENT = "enrolment"
    """The patient left the insurance, the practice or the register."""

    OBSERVATION_PERIOD = "observation_period"
    """The source states the last day, but not why it is the last."""


PROLONGED_STAY_DAYS = 7
"""A stay of more than this many days is prolonged (Rasmy et al. 2021)."""

EVENTS = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("admit_date", pa.date32(), nullable=False),
        pa.field("discharge_date", pa.date32(), nullable=False),
        pa.field("date", pa.date32()),
        pa.field("time", pa.timestamp("us")),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("code", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("unit", pa.string()),
        pa.field("value_text", pa.string()),
        pa.field("present_on_admission", pa.int32()),
        pa.field("priority", pa.int32()),
        pa.field("third_party", pa.int32()),
    ]
)
"""Event table: one row per recorded event.

`admit_date` and `discharge_date` are the days of its visit; `discharge_date` is never before `admit_date`.
`date` is the day of the event itself, null if only the visit is known. `time` is its local time on that day,
to the second and without a time zone, null if only the day is known. `kind` is an `EventKind`. `code` starts
with its system (`ICD9_250.00`, `ICD10_E11.9`). `value` and `unit`, or `value_text`, are what was measured.
The last three columns order the codes of a visit, in ascending order with missing values last.
"""

DIAGNOSES = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("admit_date", pa.date32(), nullable=False),
        pa.field("discharge_date", pa.date32(), nullable=False),
        pa.field("code", pa.string(), nullable=False),
        pa.field("present_on_admission", pa.int32()),
        pa.field("priority", pa.int32()),
        pa.field("third_party", pa.int32()),
    ]
)
"""Diagnosis table: one row per recorded diagnosis.

`discharge_date` is never before `admit_date`. `code` starts with its system (`ICD9_250.00`, `ICD10_E11.9`).
The last three columns order the codes of a visit, in ascending order with missing values last.
"""

OBSERVATION = pa.schema(
    [
        pa.field("observation_start", pa.date32()),
        pa.field("observation_end", pa.date32()),
        pa.field("death_date", pa.date32()),
        pa.field("observation_end_reason", pa.string()),
    ]
)
"""Period of observation and death of a patient, as the last columns of `SEQUENCES` and in `COHORT`.

The columns are those of `PATIENTS`. A value that the source does not state is null. In particular, the last
discharge never replaces `observation_end`, and death does not end the observation. Labels and audits may use
these columns, but they are no input of a model.
"""

SEQUENCES = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("visit_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("admit_date", pa.list_(pa.date32()), nullable=False),
        pa.field("los_days", pa.list_(pa.int32()), nullable=False),
        pa.field("days_to_next", pa.list_(pa.int32()), nullable=False),
        *OBSERVATION,
    ]
)
"""Sequences: one row per patient.

`token_ids` and `visit_ids` (from 1, non-decreasing) have one value per token: a code or an optional context
token. `admit_date`, `los_days` (discharge - admission, in days) and `days_to_next` (next admission - this
discharge, in days; 0 for the last visit, negative if stays overlap) have one value per visit. The columns of
`OBSERVATION` have one value per patient. Sequences of version 0.1 do not have them.
"""

PATIENTS = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("birth_date", pa.date32()),
        pa.field("sex", pa.string()),
        pa.field("death_date", pa.date32()),
        pa.field("observation_start", pa.date32()),
        pa.field("observation_end", pa.date32()),
        pa.field("observation_end_reason", pa.string()),
    ]
)
"""Patients of an extracted folder: one row per patient.

`birth_date` is 1 January if only the year is known. `sex` is `F`, `M` or the value of the source in upper
case. `observation_start` and `observation_end` are the first and last day that the source covers, null if it
does not state them: the days of visits are no substitute. `observation_end_reason` is an
`ObservationEndReason`, null if the end or the reason is unknown.
"""

SPLITS = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)
"""The `Split` that the source assigns to each patient."""

COHORT = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("index_date", pa.date32()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("sex", pa.string()),
        pa.field("age", pa.int32()),
        pa.field("codes", pa.list_(pa.string()), nullable=False),
        pa.field("visit_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("admit_date", pa.list_(pa.date32()), nullable=False),
        pa.field("los_days", pa.list_(pa.int32()), nullable=False),
        pa.field("days_to_next", pa.list_(pa.int32()), nullable=False),
        *OBSERVATION,
    ]
)
"""Cohort table: one row per patient and index date. One column of labels per task follows these columns.

A history is as in `SEQUENCES` up to the index date, including discharges on that day. It contains codes
instead of ids, so that each model can use its own vocabulary. `days_to_next` of the last visit is 0, even if
another visit follows. `age` is in completed years at the index date. `age`, `sex` and dates are null if they
are unknown. The columns of `OBSERVATION` may describe the time after the index date: they are facts for
labels and audits, and no model may use them. Cohort tables of version 0.1 do not have them.

The column of a task has the type of its `TaskKind`; unknown labels are null.
"""


class TaskKind(StrEnum):
    """Kind of outcome that a task predicts. The type of its column in the cohort table determines it."""

    BINARY = "binary"
    REGRESSION = "regression"
    MULTILABEL = "multilabel"
    VISITS = "visits"


TASK_COLUMNS = {
    TaskKind.BINARY: pa.int32(),
    TaskKind.REGRESSION: pa.float64(),
    TaskKind.MULTILABEL: pa.list_(pa.string()),
    TaskKind.VISITS: pa.list_(pa.int32()),
}
"""Column types: 0 or 1; a number; the codes that apply; 0 or 1 for each visit of the history."""

LABEL = "label"
"""Column of the labels if a cohort has one task."""

REJECTED = pa.schema(
    [
        pa.field("line", pa.int64()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("row", pa.string(), nullable=False),
    ]
)
"""Rejected rows.

`line` is the line number in the source file, from 1 and including the header; null if the source has no
lines. `row` is the line itself. It contains patient data, so store this file as safely as the source.
"""
