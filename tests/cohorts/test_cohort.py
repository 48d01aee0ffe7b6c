import dataclasses

import numpy as np
import pyarrow as pa

from ehr_bert.cohorts.cohort import cohort_of, read_cohort
from ehr_bert.schemas import COHORT, OBSERVATION, Split, TaskKind
from tests.user_errors import raises_user_error

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
    cohort_table = pa.Table.from_pylist(rows, schema=COHORT)
    for name, column in tasks.items():
        cohort_table = cohort_table.append_column(name, column)
    return cohort_table


def test_codes_are_positions_in_a_sorted_vocabulary():
    histories = cohort_of(table(), {}, "here").histories
    assert histories.vocabulary.tolist() == ["A", "B", "Z"]
    assert histories.codes.tolist() == [2, 1, 2, 0]
    assert histories.code_offsets.tolist() == [0, 3, 3, 4]
    assert histories.visits.tolist() == [2, 0, 1]
    assert histories.example.tolist() == [0, 0, 0, 2]


def test_files_with_different_codes_share_one_vocabulary():
    whole = table()
    files = pa.concat_tables([pa.Table.from_pylist([row], schema=COHORT) for row in whole.to_pylist()])
    one, other = (cohort_of(part, {}, "here").histories for part in (whole, files))
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


def test_take_returns_examples_in_the_requested_order():
    cohort = cohort_of(table(label=pa.array([1, None, 0], pa.int32())), {}, "here").take(np.array([2, 0]))
    assert cohort.patient_ids.tolist() == ["c", "a"]
    assert cohort.histories.codes.tolist() == [0, 2, 1, 2]
    assert cohort.histories.visit_ids.tolist() == [1, 1, 1, 2]
    assert cohort.labels("label").tolist() == [0.0, 1.0]


def test_of_returns_the_examples_of_one_split():
    cohort = cohort_of(table(label=pa.array([1, None, 0], pa.int32())), {}, "here")
    assert cohort.of(Split.TEST).patient_ids.tolist() == ["b"]
    assert np.isnan(cohort.of(Split.TEST).labels("label")).all()
    assert np.isnan(cohort.age[1])


def test_the_type_of_a_column_gives_the_kind_of_its_task():
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


def test_a_task_of_another_type_is_refused():
    with raises_user_error("column-type", "label", "string"):
        cohort_of(table(label=pa.array(["a", "b", "c"])), {}, "here")


def test_observation_and_death_are_no_part_of_a_cohort_in_memory():
    facts = {
        "observation_start": pa.array([1, None, 3], pa.date32()),
        "observation_end": pa.array([500, 600, None], pa.date32()),
        "death_date": pa.array([None, 610, None], pa.date32()),
        "observation_end_reason": pa.array(["extraction", None, None]),
    }
    known = table(label=pa.array([1, None, 0], pa.int32()))
    for name, column in facts.items():
        known = known.set_column(known.column_names.index(name), name, column)
    of_version_01 = known.drop_columns(OBSERVATION.names)
    assert list(facts) == OBSERVATION.names
    assert len(of_version_01.columns) == len(COHORT) - 4 + 1
    cohorts = [cohort_of(part, {}, "here") for part in (known, of_version_01)]
    for one, other in (cohorts, [cohort.histories for cohort in cohorts]):
        for field in dataclasses.fields(one):
            if field.name != "histories":
                np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
    assert list(cohorts[0].tasks) == ["label"]


def test_a_missing_column_is_refused():
    with raises_user_error("missing-column", "visit_ids"):
        cohort_of(table().drop_columns("visit_ids"), {}, "here")


def test_lists_of_different_lengths_are_refused():
    rows = table().to_pylist()
    rows[0]["visit_ids"].pop()
    with raises_user_error("list-lengths-differ", "here"):
        cohort_of(pa.Table.from_pylist(rows, schema=COHORT), {}, "here")


def test_another_folder_is_not_a_cohort(tmp_path):
    with raises_user_error("not-a-cohort", tmp_path):
        read_cohort(tmp_path)
