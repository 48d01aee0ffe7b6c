# Covers: ehr_bert.prediction.multitask.task_type, ehr_bert.prediction.multitask.losses,
# ehr_bert.prediction.multitask.binary, ehr_bert.prediction.multitask.regression,
# ehr_bert.prediction.multitask.multilabel, ehr_bert.prediction.multitask.visits,
# ehr_bert.prediction.multitask.data
import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import log_loss, r2_score

from ehr_bert.cohorts.cohort import cohort_of
from ehr_bert.prediction.encoders import bert_encoder
from ehr_bert.prediction.fitting import predict_logits
from ehr_bert.prediction.heads import HEADS
from ehr_bert.prediction.multitask.data import data_of
from ehr_bert.prediction.multitask.losses import loss_of, score_of
from ehr_bert.prediction.multitask.visits import visit_labels
from ehr_bert.prediction.reading import ModelVocabulary, encode
from ehr_bert.schemas import COHORT, TASK_COLUMNS, Split, TaskKind
from tests.prediction.small import CODES, TOKENS
from tests.user_errors import raises_user_error

IDS = {token: place for place, token in enumerate(TOKENS)}


def side(data, kind, split=Split.TRAIN):
    return next(task_data.splits[split] for task_data in data if task_data.task.type.name == kind)


def lines(tasks, kind):
    """The examples of a task's training split."""
    task = next(task for task in tasks if task.type.name == kind)
    cohort = task.cohort.of(Split.TRAIN)
    return cohort, cohort.tasks[kind.value].to_pylist()


def test_a_regression_is_standardised_by_its_training_labels(tasks, data):
    _, expected = lines(tasks, TaskKind.REGRESSION)
    labels = side(data, TaskKind.REGRESSION).labels
    assert labels.values.mean() == pytest.approx(0, abs=1e-6)
    assert labels.values.std() == pytest.approx(1)
    np.testing.assert_allclose(labels.values[:, 0] * labels.scale + labels.center, expected, rtol=1e-5)


def test_each_frequent_code_has_an_output(tasks, data):
    cohort, expected = lines(tasks, TaskKind.MULTILABEL)
    labels = side(data, TaskKind.MULTILABEL).labels
    counts = {code: sum(code in codes for codes in expected) for code in CODES}
    assert labels.codes == tuple(sorted(code for code, count in counts.items() if count >= 10))
    for row, expected_row in zip(labels.values, expected, strict=True):
        assert row.tolist() == [float(code in expected_row) for code in labels.codes]
    assert len(cohort) == len(labels.values)


def test_visits_have_their_labels(tasks, data):
    _, expected = lines(tasks, TaskKind.VISITS)
    labels = side(data, TaskKind.VISITS).labels
    assert labels.skipped == 0
    for row, expected_row in zip(labels.values, expected, strict=True):
        assert row[~np.isnan(row)].tolist() == expected_row
        assert np.isnan(row[len(expected_row) :]).all()


def visits_cohort(labels, codes=None, visit_ids=None):
    codes = codes or CODES[:6]
    visit_ids = visit_ids or [1, 2, 2, 3, 4, 5]
    row = {"patient_id": "a", "split": "train", "codes": codes, "visit_ids": visit_ids}
    row |= {name: [0] * max(visit_ids) for name in ("los_days", "days_to_next")}
    table = pa.Table.from_pylist([row | {"admit_date": [None] * max(visit_ids)}], schema=COHORT)
    column = pa.array([labels], TASK_COLUMNS[TaskKind.VISITS])
    return cohort_of(table.append_column("again", column), {}, "here")


@pytest.mark.parametrize(
    ("visits", "length", "expected", "skipped"),
    [
        (9, 23, [0, 1, np.nan, 1, 0], 0),
        (9, 4, [np.nan, 1, 0], 2),  # the last three visits are read
        (4, 23, [0, 1, np.nan], 2),  # from the third on visits share an id
    ],
)
def test_visits_that_share_an_id_or_are_not_read_have_no_label(visits, length, expected, skipped):
    cohort = visits_cohort([0, 1, None, 1, 0])
    vocabulary = ModelVocabulary(IDS, 0, 1, 2, type_vocab_size=visits, max_length=length)
    values, left_out = visit_labels(cohort, "again", encode(cohort.histories, vocabulary))
    np.testing.assert_array_equal(values, [expected])
    assert left_out == skipped


def test_a_visit_without_known_codes_keeps_the_labels_of_the_others_in_place():
    cohort = visits_cohort([0, 1, 0], [CODES[0], "AGE_40", CODES[2]], [1, 2, 3])
    vocabulary = ModelVocabulary(IDS, 0, 1, 2, type_vocab_size=9, max_length=23)
    values, skipped = visit_labels(cohort, "again", encode(cohort.histories, vocabulary))
    assert values.tolist() == [[0, 0]]
    assert skipped == 1


def test_visits_with_too_few_labels_are_refused():
    cohort = visits_cohort([0, 1])
    vocabulary = ModelVocabulary(IDS, 0, 1, 2, type_vocab_size=9, max_length=23)
    with raises_user_error("visit-count-mismatch", "again"):
        visit_labels(cohort, "again", encode(cohort.histories, vocabulary))


@pytest.mark.parametrize("kind", TaskKind)
def test_the_baseline_has_loss_1_per_example_and_explains_nothing(data, kind):
    labels = side(data, kind).labels
    logits = np.tile(labels.baseline, (len(labels.values), 1))
    losses = loss_of(labels)(torch.tensor(logits), torch.arange(len(labels.values)))
    assert losses.shape == (len(labels.values),)
    assert float(losses.mean()) == pytest.approx(1)
    assert score_of(labels)(logits)["explained"] == pytest.approx(0)


@pytest.mark.parametrize("head", HEADS)
def test_a_new_predictor_starts_at_the_baseline(folder, data, head):
    encoder = bert_encoder(folder / "model")
    for task_data in data:
        valid = task_data.splits[Split.VALID]
        predictor = task_data.predictor(encoder, head, seed=2)
        with torch.no_grad():
            predictor.head.linear.weight.zero_()
        assert score_of(valid.labels)(predict_logits(predictor, valid.inputs))["explained"] == pytest.approx(
            0, abs=1e-6
        )


def test_scores_are_those_of_scikit_learn(data, tasks):
    rng = np.random.default_rng(5)
    labels = side(data, TaskKind.REGRESSION).labels
    logits = rng.normal(size=labels.values.shape).astype(np.float32)
    assert score_of(labels)(logits)["explained"] == pytest.approx(r2_score(labels.values, logits), rel=1e-5)
    labels = side(data, TaskKind.VISITS).labels
    logits = rng.normal(size=labels.values.shape).astype(np.float32)
    known = ~np.isnan(labels.values)
    expected = log_loss(labels.values[known], 1 / (1 + np.exp(-logits[known].astype(float))))
    assert score_of(labels)(logits)["loss"] == pytest.approx(expected)


def test_a_task_with_nothing_to_learn_is_refused(tasks):
    task = next(task for task in tasks if task.type.name == TaskKind.BINARY)
    same = task.cohort.take(task.cohort.labels("binary") == 1)
    vocabulary = ModelVocabulary(IDS, 0, 1, 2, type_vocab_size=9, max_length=23)
    with raises_user_error("constant-labels", "binary"):
        data_of([type(task)(task.settings, task.type, same)], vocabulary)
