"""Small cohorts in memory and on disk."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ehr_bert.cohorts.cohort import COHORT_FOLDER, cohort_of
from ehr_bert.files import SUMMARY_FILE
from ehr_bert.schemas import COHORT, LABEL

COMMON, BAD = "ICD10_E0", "ICD10_E1"
OTHERS = [f"ICD10_E{number}" for number in range(2, 24)]
"""Other codes in the vocabulary of the tiny export folder."""

SPLITS = ("train",) * 7 + ("valid",) * 2 + ("test",) * 2


def table(patients=143, seed=0):
    """Return patients with one to five visits. Patients with the code `BAD` often have the outcome."""
    random = np.random.default_rng(seed)
    rows, labels = [], []
    for number in range(patients):
        visits = int(random.integers(1, 6))
        codes = [[COMMON, *random.choice(OTHERS, 2, replace=False)] for _ in range(visits)]
        ill = random.random() < 0.4
        if ill:
            codes[int(random.integers(visits))].append(BAD)
        labels.append(int(random.random() < (0.8 if ill else 0.1)))
        rows.append(
            {
                "patient_id": f"p{number:03}",
                "split": SPLITS[number % len(SPLITS)],
                "sex": ("F", "M", None)[number % 3],
                "age": 40 + number % 37 if number % 5 else None,
                "codes": [code for visit in codes for code in visit],
                "visit_ids": [place for place, visit in enumerate(codes, 1) for _ in visit],
                "admit_date": [None] * visits,
                "los_days": [1] * visits,
                "days_to_next": [0] * visits,
            }
        )
    return pa.Table.from_pylist(rows, schema=COHORT).append_column(LABEL, pa.array(labels, pa.int32()))


def cohort(patients=143, seed=0):
    return cohort_of(table(patients, seed), {}, "here")


def write_cohort(folder, patients=143, seed=0, made=None):
    (folder / COHORT_FOLDER).mkdir(parents=True)
    made = table(patients, seed) if made is None else made
    pq.write_table(made, folder / COHORT_FOLDER / "00000.parquet")
    (folder / SUMMARY_FILE).write_text(json.dumps({"definition": {"labels": "made up"}}))
    return folder
