"""Small cohorts in which labels follow from codes."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ehr_bert.cohorts.cohort import COHORT_FOLDER
from ehr_bert.files import SUMMARY_FILE
from ehr_bert.schemas import TASK_COLUMNS, TaskKind
from tests.prediction.small import CODES, cohort_table

FIRST = CODES[0]


def write_cohort(folder, patients=90, seed=0, first=0, splits=None):
    """A cohort with a task of each kind; a tenth of the labels isn't known.

    `binary`: whether the first code is in the history. `visits`: whether it is in each visit. `regression`:
    10 times the number of codes. `multilabel`: the codes themselves.

    Args:
        folder: Where to.
        patients: How many.
        seed: Decides their codes.
        first: The number of the first patient.
        splits: Of each patient; by default two in four are trained on, one validates, one tests.
    """
    rng = np.random.default_rng(seed)
    histories = [
        [
            sorted(rng.choice(CODES[:11], rng.integers(1, 3), replace=False).tolist())
            for _ in range(rng.integers(1, 5))
        ]
        for _ in range(patients)
    ]
    labels = {
        TaskKind.BINARY: [int(any(FIRST in visit for visit in visits)) for visits in histories],
        TaskKind.VISITS: [[int(FIRST in visit) for visit in visits] for visits in histories],
        TaskKind.REGRESSION: [10.0 * sum(map(len, visits)) for visits in histories],
        TaskKind.MULTILABEL: [sorted({code for visit in visits for code in visit}) for visits in histories],
    }
    columns = {
        kind.value: pa.array(
            [None if number % 10 == 9 else value for number, value in enumerate(values)], TASK_COLUMNS[kind]
        )
        for kind, values in labels.items()
    }
    table = cohort_table(
        histories,
        splits or [("train", "train", "valid", "test")[number % 4] for number in range(patients)],
        **columns,
    )
    names = pa.array([f"patient {first + number}" for number in range(patients)])
    table = table.set_column(0, table.schema.field(0), names)
    (folder / COHORT_FOLDER).mkdir(parents=True)
    pq.write_table(table, folder / COHORT_FOLDER / "part.parquet")
    (folder / SUMMARY_FILE).write_text("{}")
    return folder


def tasks_text(*kinds, absent=(), cohort="cohort", **fit):
    """A task file with a task of each kind, some of them not in the joint training."""
    tasks = "".join(
        f'[[tasks]]\nname = "{kind}"\ncohort = "{cohort}"\ncolumn = "{kind}"\n'
        f"joint = {str(kind not in absent).lower()}\n"
        for kind in kinds
    )
    return tasks + "[fit]\n" + "".join(f"{key} = {value}\n" for key, value in fit.items())
