import numpy as np
import pyarrow as pa

from ehr_bert.cohorts.cohort import read_cohort
from ehr_bert.prediction.contenders.problem import Problem, binary_task
from ehr_bert.prediction.contenders.tuning import Tuning
from tests.prediction.cohorts import table, write_cohort
from tests.user_errors import raises_user_error


def test_splits_are_those_of_the_cohort_and_sizes_count_patients(tmp_path):
    twice = pa.concat_tables([table(), table()])  # each patient has two index dates
    folder = write_cohort(tmp_path / "cohort", made=twice)
    problem = Problem.of(read_cohort(folder), "label", None, Tuning())
    split_rows = problem.split_rows(17, seed=3)
    assert len(split_rows.train) == 34
    assert set(problem.cohort.split[split_rows.train]) == {"train"}
    assert set(problem.cohort.split[split_rows.valid]) == {"valid"}
    assert set(problem.cohort.split[split_rows.test]) == {"test"}
    assert set(problem.split_rows(9, 3).train) < set(split_rows.train)
    assert not np.array_equal(problem.split_rows(17, 4).train, split_rows.train)


def test_examples_without_a_label_are_left_out(tmp_path):
    unlabelled = table().drop_columns("label")
    labels = table()["label"].to_pylist()
    labels[:11] = [None] * 11
    folder = write_cohort(
        tmp_path / "cohort", made=unlabelled.append_column("died", pa.array(labels, pa.int32()))
    )
    cohort = read_cohort(folder)
    problem = Problem.of(cohort, binary_task(cohort, None), None, Tuning())
    assert len(problem.labels) == 132
    assert problem.rows[0] == 11


def test_a_split_without_cases_is_refused(tmp_path):
    none = table().drop_columns("label").append_column("label", pa.array([0] * 143, pa.int32()))
    write_cohort(tmp_path / "cohort", made=none)
    with raises_user_error("one-class-only", "train", "label", 91):
        Problem.of(read_cohort(tmp_path / "cohort"), "label", None, Tuning())


def test_one_of_several_tasks_must_be_named(tmp_path):
    two = table().rename_columns({"label": "died"}).append_column("fell", table()["label"])
    cohort = read_cohort(write_cohort(tmp_path / "cohort", made=two))
    with raises_user_error("several-tasks", "died, fell", "--task"):
        binary_task(cohort, None)
    assert binary_task(cohort, "fell") == "fell"
    with raises_user_error("unknown-task", "'dead'", "died, fell"):
        binary_task(cohort, "dead")


def test_training_sizes_out_of_range_are_refused(tmp_path):
    problem = Problem.of(read_cohort(write_cohort(tmp_path / "cohort")), "label", None, Tuning())
    problem.check_sizes([2, 90, None])
    for size in (1, 91):
        with raises_user_error("training-size-out-of-range", size, 91):
            problem.check_sizes([41, size])
