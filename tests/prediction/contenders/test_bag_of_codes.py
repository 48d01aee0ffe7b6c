import numpy as np
import pyarrow as pa
import pytest

from ehr_bert.cohorts.cohort import cohort_of
from ehr_bert.prediction.contenders.bag_of_codes import demographics, log_counts, presence, visit_counts
from ehr_bert.schemas import COHORT
from tests.prediction.cohorts import cohort


def of_histories(*histories, ages=None, sexes=None):
    rows = [
        {
            "patient_id": str(number),
            "split": "train",
            "sex": sexes[number] if sexes else None,
            "age": ages[number] if ages else None,
            "codes": [code for visit in visits for code in visit],
            "visit_ids": [place for place, visit in enumerate(visits, 1) for _ in visit],
            "admit_date": [None] * len(visits),
            "los_days": [0] * len(visits),
            "days_to_next": [0] * len(visits),
        }
        for number, visits in enumerate(histories)
    ]
    return cohort_of(pa.Table.from_pylist(rows, schema=COHORT), {}, "here")


def test_a_value_is_the_number_of_visits_with_the_code():
    examples = of_histories([["A", "B"], ["A"]], [["C"]], [])
    assert visit_counts(examples.histories).toarray().tolist() == [[2, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_context_tokens_are_not_counted():
    examples = of_histories([["SEX_F", "AGE_60-69", "A"], ["GAP_8-30", "A"]])
    assert visit_counts(examples.histories).toarray().tolist() == [[2, 0, 0, 0]]
    assert presence(visit_counts(examples.histories), np.array([0])).toarray().tolist() == [[1]]


def test_columns_are_the_codes_of_the_training_examples():
    counts = visit_counts(of_histories([["A"]], [["B"]], [["C", "A"], ["C"]]).histories)
    assert presence(counts, np.array([1, 2])).toarray().tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert presence(counts, np.array([0])).toarray().tolist() == [[1], [0], [1]]
    assert log_counts(counts, np.array([2])).toarray() == pytest.approx(
        np.log1p([[1, 0], [0, 0], [1, 2]]), abs=1e-6
    )


def test_counts_equal_those_patient_by_patient():
    examples = cohort(29).histories
    counts = visit_counts(examples).toarray()
    for number in range(len(examples)):
        one = examples.take(np.array([number]))
        codes, times = np.unique(one.codes, return_counts=True)
        expected = np.zeros(len(examples.vocabulary))
        expected[codes] = times
        assert (counts[number] == expected).all()


def test_age_is_standardised_by_the_training_examples():
    examples = of_histories([], [], [], [], ages=[50, 70, 90, None], sexes=["F", "M", None, "F"])
    columns = demographics(examples, np.array([0, 1, 3])).toarray()
    assert columns[:, 0] == pytest.approx([-1, 1, 3, 0])  # mean 60, deviation 10
    assert columns[:, 1] == pytest.approx([1, 1, 9, 0])
    assert columns[:, 2].tolist() == [0, 0, 0, 1]  # not known
    assert columns[:, 3:].tolist() == [[1, 0], [0, 1], [0, 0], [1, 0]]


def test_constant_columns_are_left_out():
    examples = of_histories([], [], sexes=["F", "F"])
    assert demographics(examples, np.array([0, 1])).shape == (2, 0)
