"""Who is compared: each contender's name, and how it is fitted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scipy import sparse

from ehr_bert.errors import UserError
from ehr_bert.prediction.contenders.bag_of_codes import demographics, log_counts, presence
from ehr_bert.prediction.contenders.boosting import fit_boosting
from ehr_bert.prediction.contenders.logistic_regression import fit_logistic_regression
from ehr_bert.prediction.contenders.neural import Start, fit_neural
from ehr_bert.prediction.contenders.problem import Problem, Scores, Sides
from ehr_bert.prediction.contenders.stack import fit_stack
from ehr_bert.prediction.heads import HEADS

LINEAR = ("logistic_regression", "logistic_regression_counts", "logistic_regression_demographics")
FROM_SCRATCH = ("gru", "bigru", "retain")
STACK = "stack"

Fit = Callable[[Problem, Sides, int, Mapping[str, Scores]], Scores]
"""Fits on the training examples of some sides, by a seed, with the scores of those whom it needs."""


@dataclass(frozen=True)
class Contender:
    """One way to predict.

    Attributes:
        name: As it stands in the table.
        fit: Fits it.
        needs: Contenders whose scores, at the same size and seed, it builds on.
        is_baseline: Whether it owes nothing to the pretraining.
        reads_export: Whether it takes its shape or its weights from the export folder.
    """

    name: str
    fit: Fit
    needs: tuple[str, ...] = ()
    is_baseline: bool = True
    reads_export: bool = False


def names(head: str) -> list[str]:
    """All contenders, with a head of that name on BERT, in the order of the table."""
    on_bert = [f"{start}_{head}" for start in (Start.UNTRAINED, Start.FROZEN, Start.PRETRAINED)]
    return [*LINEAR, "boosting", *FROM_SCRATCH, *on_bert, f"{STACK}_{head}"]


def place(name: str) -> int:
    """Where a contender stands in the table."""
    starts = (Start.UNTRAINED, Start.FROZEN, Start.PRETRAINED, STACK)
    order = [*LINEAR, "boosting", *FROM_SCRATCH, *(f"{start}_{head}" for start in starts for head in HEADS)]
    return order.index(name)


def contender(name: str) -> Contender:
    """The contender of that name: one of `names` of any head.

    Raises:
        UserError: there is none.
    """
    start, _, head = name.partition("_")
    if name in _FEATURES:
        return Contender(name, lambda problem, sides, seed, _: _linear(name, problem, sides))
    if name == "boosting":
        return Contender(name, lambda problem, sides, seed, _: _boosting(problem, sides, seed))
    if name in FROM_SCRATCH:
        return _neural(name, Start.SCRATCH, name)
    if head in HEADS and start == STACK:
        bert = f"{Start.PRETRAINED}_{head}"
        return Contender(name, _stack(bert), (*LINEAR, bert), is_baseline=False)
    if head in HEADS and start in (Start.UNTRAINED, Start.FROZEN, Start.PRETRAINED):
        return _neural(name, Start(start), head)
    raise UserError(f"there is no contender {name!r}: choose among {', '.join(names('HEAD'))}")


def _presence(problem: Problem, sides: Sides) -> sparse.csr_array:
    return presence(problem.visit_counts, sides.train)


def _counts(problem: Problem, sides: Sides) -> sparse.csr_array:
    return log_counts(problem.visit_counts, sides.train)


def _with_demographics(features: sparse.csr_array, problem: Problem, sides: Sides) -> sparse.csr_array:
    return sparse.hstack([features, demographics(problem.cohort, sides.train)], format="csr")


_FEATURES: dict[str, Callable[[Problem, Sides], sparse.csr_array]] = {
    "logistic_regression": _presence,
    "logistic_regression_counts": _counts,
    "logistic_regression_demographics": lambda problem, sides: _with_demographics(
        _presence(problem, sides), problem, sides
    ),
}


def _linear(name: str, problem: Problem, sides: Sides) -> Scores:
    return fit_logistic_regression(_FEATURES[name](problem, sides), problem.labels, sides)


def _boosting(problem: Problem, sides: Sides, seed: int) -> Scores:
    features = _with_demographics(_counts(problem, sides), problem, sides)
    return fit_boosting(features, problem.labels, sides, seed)


def _neural(name: str, start: Start, head: str) -> Contender:
    def fitted(problem: Problem, sides: Sides, seed: int, _: Mapping[str, Scores]) -> Scores:
        return fit_neural(problem, sides, seed, start, head)[1]

    is_baseline = start in (Start.SCRATCH, Start.UNTRAINED)
    return Contender(name, fitted, is_baseline=is_baseline, reads_export=start is not Start.SCRATCH)


def _stack(bert: str) -> Fit:
    def fitted(problem: Problem, sides: Sides, _: int, others: Mapping[str, Scores]) -> Scores:
        linear = [others[name] for name in LINEAR]
        return fit_stack(others[bert], linear, problem.labels[sides.valid])

    return fitted
