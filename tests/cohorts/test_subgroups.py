import numpy as np
import pyarrow as pa

from ehr_bert.cohorts.cohort import cohort_of
from ehr_bert.cohorts.subgroups import subgroups
from ehr_bert.schemas import COHORT

SEX_AGE_VISITS = [("F", 17, 1), ("M", 45, 2), (None, 64, 4), ("F", None, 3), ("M", 80, 30)]


def cohort():
    rows = [
        {
            "patient_id": str(number),
            "split": "test",
            "sex": sex,
            "age": age,
            "codes": ["A"] * visits,
            "visit_ids": list(range(1, visits + 1)),
            "admit_date": [None] * visits,
            "los_days": [0] * visits,
            "days_to_next": [0] * visits,
        }
        for number, (sex, age, visits) in enumerate(SEX_AGE_VISITS)
    ]
    return cohort_of(pa.Table.from_pylist(rows, schema=COHORT), {}, "here")


def test_groups_are_by_sex_age_and_visits():
    members_of = {name: np.flatnonzero(members).tolist() for name, members in subgroups(cohort()).items()}
    assert members_of == {
        "sex F": [0, 3],
        "sex M": [1, 4],
        "age 0-17": [0],
        "age 45-64": [1, 2],
        "age 80+": [4],
        "visits 1": [0],
        "visits 2": [1],
        "visits 3-4": [2, 3],
        "visits 10+": [4],
    }
