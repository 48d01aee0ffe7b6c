"""Shortcuts: information that predicts an outcome better than it plausibly could.

Each is measured by a simple model that is cross-validated by patient on training examples only. A person
judges the result: a high AUROC may be real, but is more often a leak.

Dimensions: N examples, C codes of all histories, K visits of all histories, U distinct codes.
"""

import ibis
import ibis.expr.types as ir
import numpy as np
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from ehr_bert.cohorts.cohort import Cohort, Histories, cohort_of
from ehr_bert.cohorts.findings import Violations
from ehr_bert.engines import Engine
from ehr_bert.schemas import Split, is_context
from ehr_bert.splits import patient_hash, sample_of

MAX_PATIENTS = 10_000
"""Maximum number of training patients in the sample."""

MAX_EXAMPLES = 30_000
"""Maximum number of examples in the sample, which bounds memory and time for many index dates per patient."""

MIN_PER_CLASS = 50
"""Minimum number of cases and of controls for a meaningful AUROC."""

MAX_STRUCTURE_AUROC = 0.8
"""Counts of codes, visits and days rarely predict a disease better than this."""

MAX_CODE_AUROC = 0.95
"""Past diagnoses rarely predict a later one better than this."""

RECENT_DAYS = 30
"""Days before the index date in which a diagnosis in progress may already show."""

MAX_RECENT_GAIN = 0.15
"""Maximum plausible gain in AUROC from these days."""

_FOLDS = 3
_NOT_CHECKED = Violations(0, f"not checked: fewer than {MIN_PER_CLASS} training cases or controls")


def training_sample(engine: Engine, table: ir.Table) -> Cohort:
    """Return a sample of the training examples of a cohort table, drawn by hashes.

    Args:
        engine: Engine that stores the table.
        table: A cohort table.
    """
    train = table.filter(table.split == Split.TRAIN.value)
    sample = train.semi_join(sample_of(train, MAX_PATIENTS, 0), "patient_id")
    day = ibis.coalesce(sample.index_date.cast("string"), "")
    drawn = sample.order_by(patient_hash(sample.patient_id + " " + day, "sample", 0)).limit(MAX_EXAMPLES)
    return cohort_of(engine.collect(drawn.order_by("patient_id", "index_date")), {}, "the cohort")


def structure_shortcut(task: str, train: Cohort) -> Violations:
    """Measure how well counts of codes, visits and days predict a binary task.

    Args:
        task: Name of the task.
        train: Training examples.

    Returns:
        1 violation if the AUROC exceeds `MAX_STRUCTURE_AUROC`.
    """
    labelled = train.take(~np.isnan(train.labels(task)))
    labels = labelled.labels(task)
    if not _has_enough_labels(labels):
        return _NOT_CHECKED
    model = HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=8, random_state=0)
    auroc = _auroc(model, _structure(labelled), labels, labelled.patient_ids)
    return Violations(int(auroc > MAX_STRUCTURE_AUROC), f"AUROC {auroc:.2f}")


def code_shortcut(task: str, train: Cohort) -> Violations:
    """Measure how well a bag of codes predicts a binary task, with and without the last `RECENT_DAYS`.

    Args:
        task: Name of the task.
        train: Training examples.

    Returns:
        1 violation if the AUROC exceeds `MAX_CODE_AUROC`, and 1 if the last days gain more than
        `MAX_RECENT_GAIN`.
    """
    labelled = train.take(~np.isnan(train.labels(task)))
    labels = labelled.labels(task)
    if not _has_enough_labels(labels):
        return _NOT_CHECKED
    presence = _presence(labelled.histories)  # [N, U]
    auroc = _auroc(_code_model(), presence, labels, labelled.patient_ids)
    detail = f"AUROC {auroc:.2f} with a bag of codes"
    count = int(auroc > MAX_CODE_AUROC)
    earlier = _presence_before_recent_days(labelled.histories)  # [N, U]
    has_earlier = np.diff(earlier.indptr) > 0  # [N]
    if _has_enough_labels(labels[has_earlier]):
        patients = labelled.patient_ids[has_earlier]
        with_recent = _auroc(_code_model(), presence[has_earlier], labels[has_earlier], patients)
        without_recent = _auroc(_code_model(), earlier[has_earlier], labels[has_earlier], patients)
        count += int(with_recent - without_recent > MAX_RECENT_GAIN)
        detail += (
            f"; {without_recent:.2f} without the last {RECENT_DAYS} days, {with_recent:.2f} with them on the "
            "same examples"
        )
    if count:
        strongest = _strongest_code(presence, labels, labelled.histories.vocabulary)
        detail += f"; the code with the largest weight is {strongest}"
    return Violations(count, detail)


def _has_enough_labels(labels: np.ndarray) -> bool:
    return min((labels == 1).sum(), (labels == 0).sum()) >= MIN_PER_CLASS


def _code_model() -> LogisticRegression:
    return LogisticRegression(C=0.1, solver="liblinear", random_state=0)


def _auroc(
    model: BaseEstimator, features: np.ndarray | csr_matrix, labels: np.ndarray, patients: np.ndarray
) -> float:
    """Return the cross-validated AUROC: each example is predicted by a model of other patients."""
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    risks = cross_val_predict(
        model, features, labels, groups=patients, cv=folds, method="predict_proba"
    )  # [N, 2]
    return float(roc_auc_score(labels, risks[:, 1]))


def _structure(cohort: Cohort) -> np.ndarray:
    """Describe histories without their codes: float64 `[N, 5]`, -1 where unknown.

    The columns are the number of codes, of visits, and of codes in the last visit, the days from the first
    admission to the index date, and the days of the last stay.
    """
    histories = cohort.histories
    first = histories.admit_date[np.minimum(histories.visit_offsets[:-1], len(histories.admit_date) - 1)]
    last = np.maximum(histories.visit_offsets[1:] - 1, 0)
    days = cohort.index_date - first  # [N]
    in_last = histories.visit_ids == histories.visits[histories.example]  # [C]
    columns = [
        histories.lengths,
        histories.visits,
        np.bincount(histories.example[in_last], minlength=len(histories)),
        np.where(np.isnat(days), -1, days.astype(float)),
        np.nan_to_num(histories.los_days[last], nan=-1),
    ]
    return np.stack([np.asarray(column, float) for column in columns], axis=1)


def _presence(histories: Histories, selected: np.ndarray | None = None) -> csr_matrix:
    """Return which codes each history has, without context tokens: 0 or 1, `[N, U]`.

    Args:
        histories: N histories.
        selected: Positions of `codes` to use, bool `[C]`. All by default.
    """
    is_code = np.array([not is_context(token) for token in histories.vocabulary], bool)[histories.codes]
    used = is_code if selected is None else is_code & selected
    rows, columns = histories.example[used], histories.codes[used]
    shape = len(histories), len(histories.vocabulary)
    counts = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    counts.data[:] = 1
    return counts


def _presence_before_recent_days(histories: Histories) -> csr_matrix:
    """Return which codes come from visits that end more than `RECENT_DAYS` before the last one: `[N, U]`.

    The last discharge replaces the index date, which may be later.
    """
    stays = np.nan_to_num(histories.los_days).astype("timedelta64[D]")  # [K]
    ends = histories.admit_date + stays  # [K]
    last = ends[np.maximum(histories.visit_offsets[1:] - 1, 0)]  # [N]
    visit = histories.visit_offsets[:-1][histories.example] + histories.visit_ids - 1  # [C]
    return _presence(histories, last[histories.example] - ends[visit] > np.timedelta64(RECENT_DAYS, "D"))


def _strongest_code(presence: csr_matrix, labels: np.ndarray, vocabulary: np.ndarray) -> str:
    """Return the code with the largest absolute weight."""
    weights = _code_model().fit(presence, labels).coef_[0]
    return str(vocabulary[np.abs(weights).argmax()])
