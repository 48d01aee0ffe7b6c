import numpy as np
import pyarrow as pa
import pytest

from ehr_bert.cohorts.cohort import cohort_of
from ehr_bert.errors import UserError
from ehr_bert.schemas import COHORT, Split, TaskKind

ROWS = [
    {
        "patient_id": "a",
        "split": "train",
        "sex": "F",
        "age": 61,
        "codes": ["Z", "B", "Z"],
        "visit_ids": [1, 1, 2],
    },
    {"patient_id": "b", "split": "test", "sex": None, "age": None, "codes": [], "visit_ids": []},
    {"patient_id": "c", "split": "train", "sex": "M", "age": 40, "codes": ["A"], "visit_ids": [1]},
]


def table(**tasks):
    rows = []
    for row in ROWS:
        visits = max(row["visit_ids"], default=0)
        rows.append(
            row | {"admit_date": [None] * visits, "los_days": [3] * visits, "days_to_next": [0] * visits}
        )
    made = pa.Table.from_pylist(rows, schema=COHORT)
    for name, column in tasks.items():
        made = made.append_column(name, column)
    return made


def test_codes_are_places_in_their_sorted_vocabulary():
    histories = cohort_of(table(), {}, "here").histories
    assert histories.vocabulary.tolist() == ["A", "B", "Z"]
    assert histories.codes.tolist() == [2, 1, 2, 0]
    assert histories.code_offsets.tolist() == [0, 3, 3, 4]
    assert histories.visits.tolist() == [2, 0, 1]
    assert histories.example.tolist() == [0, 0, 0, 2]


def test_files_of_other_codes_are_one_vocabulary():
    whole = table()
    files = pa.concat_tables([pa.Table.from_pylist([row], schema=COHORT) for row in whole.to_pylist()])
    one, other = (cohort_of(each, {}, "here").histories for each in (whole, files))
    assert files["codes"].num_chunks == 3
    for name in (
        "vocabulary",
        "codes",
        "visit_ids",
        "code_offsets",
        "admit_date",
        "los_days",
        "visit_offsets",
    ):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_examples_are_taken_in_the_order_asked_for():
    cohort = cohort_of(table(label=pa.array([1, None, 0], pa.int32())), {}, "here").take(np.array([2, 0]))
    assert cohort.patient_ids.tolist() == ["c", "a"]
    assert cohort.histories.codes.tolist() == [0, 2, 1, 2]
    assert cohort.histories.visit_ids.tolist() == [1, 1, 1, 2]
    assert cohort.labels("label").tolist() == [0.0, 1.0]


def test_a_side_is_its_examples_alone():
    cohort = cohort_of(table(label=pa.array([1, None, 0], pa.int32())), {}, "here")
    assert cohort.of(Split.TEST).patient_ids.tolist() == ["b"]
    assert np.isnan(cohort.of(Split.TEST).labels("label")).all()
    assert np.isnan(cohort.age[1])


def test_a_column_tells_the_kind_of_its_task():
    columns = {
        "died": pa.array([1, 0, None], pa.int32()),
        "cost": pa.array([1.5, None, 2.0], pa.float64()),
        "next_codes": pa.array([["A"], None, []], pa.list_(pa.string())),
        "again": pa.array([[0, 1], [], None], pa.list_(pa.int32())),
    }
    cohort = cohort_of(table(**columns), {}, "here")
    assert [cohort.kind(name) for name in columns] == [
        TaskKind.BINARY,
        TaskKind.REGRESSION,
        TaskKind.MULTILABEL,
        TaskKind.VISITS,
    ]


def test_a_task_of_another_type_is_refused_by_name():
    with pytest.raises(UserError, match=r"'label' is of type string"):
        cohort_of(table(label=pa.array(["a", "b", "c"])), {}, "here")


def test_a_missing_column_is_named():
    with pytest.raises(UserError, match="lacks the column visit_ids"):
        cohort_of(table().drop_columns("visit_ids"), {}, "here")
