"""The contracts between the stages, each defined once. `docs/formats.md` describes them for people."""

from enum import StrEnum

import pyarrow as pa


class SpecialToken(StrEnum):
    """Tokens of the vocabulary that are not codes, in the order of their ids in a new vocabulary."""

    PAD = "[PAD]"
    UNK = "[UNK]"
    CLS = "[CLS]"
    SEP = "[SEP]"
    MASK = "[MASK]"


class ContextKind(StrEnum):
    """Kinds of tokens that stand before the codes of a visit, by option, in this order."""

    SEX = "sex"
    AGE = "age"
    GAP = "gap"

    @property
    def prefix(self) -> str:
        """How tokens of the kind begin, such as `AGE_`; no system's codes do."""
        return f"{self.upper()}_"


def is_context(token: str) -> bool:
    """Whether a token tells of the patient or the visit, and is no code."""
    return token.startswith(tuple(kind.prefix for kind in ContextKind))


class Split(StrEnum):
    """The sides of the data, by patient."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


PROLONGED_STAY_DAYS = 7
"""A stay is prolonged if it is longer than this many days (Rasmy et al. 2021)."""

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
"""Diagnosis table: one row a recorded diagnosis.

`discharge_date` is never before `admit_date`. `code` carries its system (`ICD9_250.00`, `ICD10_E11.9`).
The last three columns order codes inside a visit, smaller first, missing last.
"""

SEQUENCES = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("visit_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("admit_date", pa.list_(pa.date32()), nullable=False),
        pa.field("los_days", pa.list_(pa.int32()), nullable=False),
        pa.field("days_to_next", pa.list_(pa.int32()), nullable=False),
    ]
)
"""Sequences: one row a patient.

`token_ids` and `visit_ids` (1-based, non-decreasing) are as long as the patient has codes, and by option
context tokens; `admit_date`, `los_days` (discharge - admission, in days) and `days_to_next` (next
admission - this discharge, in days, 0 for the last visit, negative where stays overlap) are as long as the
patient has visits.
"""

PATIENTS = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("birth_date", pa.date32()),
        pa.field("sex", pa.string()),
        pa.field("death_date", pa.date32()),
        pa.field("observation_start", pa.date32()),
        pa.field("observation_end", pa.date32()),
    ]
)
"""Patients of an extracted folder: one row a patient.

`birth_date` is 1 January where only the year is known. `sex` is `F`, `M`, or what the source says, in
capitals.
`observation_start` and `observation_end` span the days of which the source knows.
"""

SPLITS = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)
"""The `Split` that a source gives each patient."""

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
    ]
)
"""Cohort table: one row an index date of a patient; after these columns one a task, its labels.

A history is as in `SEQUENCES`, up to the index date, that day's discharges included, with codes in place of
ids, so that every model reads them by its own vocabulary; `days_to_next` of the last visit is 0, whatever
came later. `age` is in completed years at the index date; it, `sex` and dates are null where they aren't
known.

A task's column is of the type of its `TaskKind`, null where the label isn't known.
"""


class TaskKind(StrEnum):
    """What a task predicts, which the type of its column in a cohort table tells."""

    BINARY = "binary"
    REGRESSION = "regression"
    MULTILABEL = "multilabel"
    VISITS = "visits"


TASK_TYPES = {
    TaskKind.BINARY: pa.int32(),
    TaskKind.REGRESSION: pa.float64(),
    TaskKind.MULTILABEL: pa.list_(pa.string()),
    TaskKind.VISITS: pa.list_(pa.int32()),
}
"""0 or 1; a number; those of the codes that are true; 0 or 1 for each visit of the history."""

LABEL = "label"
"""The column of a cohort's only task."""

REJECTED = pa.schema(
    [
        pa.field("line", pa.int64()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("row", pa.string(), nullable=False),
    ]
)
"""Rejected rows: `line` counts from 1 in the source file, its header included (null where the source has
no lines); `row` is the line as it stood there. It holds what the source held: keep it where that is kept."""
