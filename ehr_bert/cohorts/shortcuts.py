"""Shortcuts: how well plain models of the training examples do from what should tell little.

Each is cross-validated by patient on the training split alone. A person judges what it finds: a high figure
may be the truth, and is more often a leak.
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

from ehr_bert.cohorts.audit import Finding
from ehr_bert.cohorts.cohort import Cohort, Histories, cohort_of
from ehr_bert.engines import Engine
from ehr_bert.schemas import Split, TaskKind, is_context
from ehr_bert.splits import patient_hash, sample_of

MAX_PATIENTS = 10_000
"""Training patients who are looked at, at most."""

EXAMPLES = 30_000
"""Of theirs, at most: memory and time don't grow with index dates a patient."""

FEWEST = 50
"""Of each outcome, for a figure to mean something."""

STRUCTURE_AUROC = 0.8
"""More than numbers of codes, visits and days tell of an illness."""

CODES_AUROC = 0.95
"""More than past diagnoses tell of a later one."""

MASKED_DAYS = 30
"""Days before the index date in which an outcome may already show."""

DROP = 0.15
"""What these days may be worth in AUROC."""

_FOLDS = 3


def shortcuts(engine: Engine, table: ir.Table) -> list[Finding]:
    """Looks for shortcuts to each binary task of a cohort.

    Args:
        engine: Where the table is.
        table: A cohort table.

    Returns:
        Warnings, two a task.
    """
    train = table.filter(table.split == Split.TRAIN.value)
    some = train.semi_join(sample_of(train, MAX_PATIENTS, 0), "patient_id")
    day = ibis.coalesce(some.index_date.cast("string"), "")
    drawn = some.order_by(patient_hash(some.patient_id + " " + day, "sample", 0)).limit(EXAMPLES)
    cohort = cohort_of(engine.collect(drawn.order_by("patient_id", "index_date")), {}, "the cohort")
    tasks = [name for name in cohort.tasks if cohort.kind(name) is TaskKind.BINARY]
    return [finding for task in tasks for finding in shortcuts_to(task, cohort)]


def shortcuts_to(task: str, train: Cohort) -> list[Finding]:
    """Looks for shortcuts to a binary task.

    Args:
        task: Its name.
        train: Training examples.

    Returns:
        Two warnings.
    """
    known = train.take(~np.isnan(train.labels(task)))
    structure = f"{task}: numbers of codes, visits and days alone don't tell the outcome"
    codes = f"{task}: codes don't tell the outcome implausibly well"
    labels = known.labels(task)
    if not _enough(labels):
        few = f"fewer than {FEWEST} training examples with or without the outcome: not looked at"
        return [Finding(name, True, few, is_warning=True) for name in (structure, codes)]
    boosting = HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=8, random_state=0)
    by_structure = _auroc(boosting, _structure(known), labels, known.patient_ids)
    presence = _presence(known.histories)
    by_codes = _auroc(_model(), presence, labels, known.patient_ids)
    told = f"a bag of codes reaches AUROC {by_codes:.2f}"
    strongest = _strongest(presence, labels, known.histories.vocabulary)
    is_plausible = by_codes <= CODES_AUROC
    masked = _masked(known.histories)
    remaining = np.diff(masked.indptr) > 0
    if _enough(labels[remaining]):
        patients = known.patient_ids[remaining]
        with_them = _auroc(_model(), presence[remaining], labels[remaining], patients)
        without = _auroc(_model(), masked[remaining], labels[remaining], patients)
        is_plausible &= with_them - without <= DROP
        told += (
            f"; without the last {MASKED_DAYS} days {without:.2f}, of {with_them:.2f} on the same examples"
        )
    if not is_plausible:
        told += f"; the code that tells most is {strongest}"
    return [
        Finding(
            structure, by_structure <= STRUCTURE_AUROC, f"AUROC {by_structure:.2f} from them", is_warning=True
        ),
        Finding(codes, bool(is_plausible), told, is_warning=True),
    ]


def _enough(labels: np.ndarray) -> bool:
    return min((labels == 1).sum(), (labels == 0).sum()) >= FEWEST


def _model() -> LogisticRegression:
    return LogisticRegression(C=0.1, solver="liblinear", random_state=0)


def _auroc(
    model: BaseEstimator, features: np.ndarray | csr_matrix, labels: np.ndarray, patients: np.ndarray
) -> float:
    """Over all examples, each predicted by a model of other patients."""
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    risks = cross_val_predict(
        model, features, labels, groups=patients, cv=folds, method="predict_proba"
    )  # [N, 2]
    return float(roc_auc_score(labels, risks[:, 1]))


def _structure(cohort: Cohort) -> np.ndarray:
    """What is left of histories when their codes are taken away: `[N, 5]`, -1 where it isn't known.

    These are numbers of codes, of visits, and of codes in the last visit, days from the first admission to
    the index date, and days of the last stay.
    """
    histories = cohort.histories
    first = histories.admit_date[np.minimum(histories.visit_offsets[:-1], len(histories.admit_date) - 1)]
    last = np.maximum(histories.visit_offsets[1:] - 1, 0)
    days = cohort.index_date - first  # [N]
    in_last = histories.visit_ids == histories.visits[histories.example]  # [C]
    features = [
        histories.lengths,
        histories.visits,
        np.bincount(histories.example[in_last], minlength=len(histories)),
        np.where(np.isnat(days), -1, days.astype(float)),
        np.nan_to_num(histories.los_days[last], nan=-1),
    ]
    return np.stack([np.asarray(each, float) for each in features], axis=1)


def _presence(histories: Histories, kept: np.ndarray | None = None) -> csr_matrix:
    """Which codes, context tokens apart, each history has: `[N, K]`, of 0 and 1.

    Args:
        histories: Of N examples.
        kept: Which places of `codes` count, bool `[C]`.
    """
    is_code = np.array([not is_context(token) for token in histories.vocabulary], bool)[histories.codes]
    counted = is_code if kept is None else is_code & kept
    rows, columns = histories.example[counted], histories.codes[counted]
    shape = len(histories), len(histories.vocabulary)
    counts = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    counts.data[:] = 1
    return counts


def _masked(histories: Histories) -> csr_matrix:
    """The codes of visits that end more than `MASKED_DAYS` before the last one: `[N, K]`.

    The last discharge stands for the index date, which may be later.
    """
    stays = np.nan_to_num(histories.los_days).astype("timedelta64[D]")  # [V]
    ends = histories.admit_date + stays  # [V]
    last = ends[np.maximum(histories.visit_offsets[1:] - 1, 0)]  # [N]
    visit = histories.visit_offsets[:-1][histories.example] + histories.visit_ids - 1  # [C]
    return _presence(histories, last[histories.example] - ends[visit] > np.timedelta64(MASKED_DAYS, "D"))


def _strongest(presence: csr_matrix, labels: np.ndarray, vocabulary: np.ndarray) -> str:
    """The code with the largest weight."""
    weights = _model().fit(presence, labels).coef_[0]
    return str(vocabulary[np.abs(weights).argmax()])
