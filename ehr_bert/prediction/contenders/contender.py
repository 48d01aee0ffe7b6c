"""Contenders by name, and the facts that each declares.

A new contender is a `Contender` in a file of this package and one line in `CONTENDERS`, or in another
installed package with an entry point in the group `ehr_bert.contenders`.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.prediction.heads import HEADS
from ehr_bert.registry import Guard, Registry, wrong_instance

if TYPE_CHECKING:
    from ehr_bert.prediction.contenders.problem import Problem, Scores, SplitRows

FAMILY_SUFFIX = "_HEAD"
"""Ends the name of a family of contenders with one member per prediction head, such as `frozen_HEAD`."""

Fit = Callable[["Problem", "SplitRows", int, Mapping[str, "Scores"]], "Scores"]
"""Fits a contender and returns its logits.

It is called with the problem, the rows of the training, validation and test examples, the seed, and the
scores of the contenders named in `needs` at the same training size and seed. It must not use test labels.
"""


@dataclass(frozen=True)
class Contender:
    """A model in a comparison.

    Attributes:
        fit: Fits the model and returns the logits of the validation and test examples.
        needs: Names of the contenders whose scores it uses.
        is_baseline: Whether it uses no pretrained weights.
        reads_export: Whether it takes its shape or its weights from the export folder.
        by_default: Whether it is compared unless the user names the contenders.
    """

    fit: Fit
    needs: tuple[str, ...] = ()
    is_baseline: bool = True
    reads_export: bool = False
    by_default: bool = True


ContenderFamily = Callable[[str], Contender]
"""Returns the member of a family for a prediction head, by the name of the head in `HEADS`."""

_MODULES = "ehr_bert.prediction.contenders"


def _adopted(name: str, loaded: Any, guard: Guard) -> Contender | ContenderFamily | str:
    def checked(contender: Contender) -> Contender:
        return replace(contender, fit=guard(contender.fit, _wrong_scores))

    if not _is_family(name):
        return wrong_instance(loaded, Contender) or checked(loaded)
    if not callable(loaded):
        return f"has a name that ends in {FAMILY_SUFFIX}, but is no function that returns a Contender"
    member = guard(loaded, lambda made, head: wrong_instance(made, Contender))
    return lambda head: checked(member(head))


def _wrong_scores(scores: Any, problem: Any, sides: "SplitRows", *_: Any) -> str | None:
    from ehr_bert.prediction.contenders.problem import Scores

    if wrong := wrong_instance(scores, Scores):
        return f"its result {wrong}"
    for split, rows in (("valid", sides.valid), ("test", sides.test)):
        logits = getattr(scores, split)
        if not isinstance(logits, np.ndarray) or logits.dtype.kind not in "fiu":
            return f"returned {split} scores that are no array of numbers"
        if logits.shape != rows.shape:
            return f"returned {split} scores {logits.shape}, not one per example: {rows.shape}"
        if not np.isfinite(logits).all():
            return f"returned {np.sum(~np.isfinite(logits)):,} {split} scores that are NaN or infinite"
    try:
        json.dumps(scores.chosen)
    except (TypeError, ValueError) as error:
        return f"returned `chosen` that JSON cannot represent: {error}"
    return None


CONTENDERS: Registry[Contender | ContenderFamily] = Registry(
    "contender",
    "ehr_bert.contenders",
    {
        "logistic_regression": f"{_MODULES}.logistic_regression:ON_PRESENCE",
        "logistic_regression_counts": f"{_MODULES}.logistic_regression:ON_COUNTS",
        "logistic_regression_demographics": f"{_MODULES}.logistic_regression:WITH_DEMOGRAPHICS",
        "boosting": f"{_MODULES}.boosting:BOOSTING",
        "gru": f"{_MODULES}.from_scratch:GRU",
        "bigru": f"{_MODULES}.from_scratch:BIGRU",
        "retain": f"{_MODULES}.from_scratch:RETAIN",
        "untrained_HEAD": f"{_MODULES}.on_bert:untrained_bert_contender",
        "frozen_HEAD": f"{_MODULES}.on_bert:frozen_bert_contender",
        "pretrained_HEAD": f"{_MODULES}.on_bert:pretrained_bert_contender",
        "stack_HEAD": f"{_MODULES}.stack:stack_contender",
    },
    _adopted,
)
"""Contenders, and families whose names end in `_HEAD`, in the order in which tables list them."""


def contender(name: str) -> Contender:
    """Return a contender by its name, such as `boosting` or `frozen_mean`.

    Raises:
        UserError: The name is unknown (key `unknown-contender`).
    """
    key, head = _parsed(name)
    entry = CONTENDERS[key]
    return entry if isinstance(entry, Contender) else entry(head)


def default_contenders(head: str) -> list[str]:
    """Return the names of the contenders that are compared by default, in the order of the table.

    Args:
        head: Name of the prediction head of the families.
    """
    names = [
        key.removesuffix(FAMILY_SUFFIX) + f"_{head}" if _is_family(key) else key
        for key in CONTENDERS.usable()
    ]
    return [name for name in names if contender(name).by_default]


def table_position(name: str) -> tuple[int, int]:
    """Return a sort key that puts contenders in the order of the table: by registry, then by head."""
    key, head = _parsed(name)
    return list(CONTENDERS).index(key), list(HEADS).index(head) if head else 0


def with_needs(names: Iterable[str]) -> list[str]:
    """Add the contenders that others need, and sort all so that each comes after those that it needs."""
    depths: dict[str, int] = {}
    needed_by: list[str] = []

    def depth(name: str) -> int:
        if name not in depths:
            needed_by.append(name)
            for need in contender(name).needs:
                if need in needed_by:
                    CONTENDERS.report(_parsed(need)[0], f"needs itself, through {' and '.join(needed_by)}")
            depths[name] = 1 + max(map(depth, contender(name).needs), default=-1)
            needed_by.pop()
        return depths[name]

    requested = list(names)
    for name in requested:
        depth(name)
    return sorted({**dict.fromkeys(requested), **depths}, key=depths.__getitem__)


def _is_family(key: str) -> bool:
    return key.endswith(FAMILY_SUFFIX)


def _parsed(name: str) -> tuple[str, str]:
    """Split the name of a contender into its key in `CONTENDERS` and the name of its head, "" without one.

    Raises:
        UserError: The name is unknown (key `unknown-contender`).
    """
    if name in CONTENDERS and not _is_family(name):
        return name, ""
    for key in filter(_is_family, CONTENDERS):
        start = key.removesuffix(FAMILY_SUFFIX) + "_"
        if name.startswith(start) and name.removeprefix(start) in HEADS:
            return key, name.removeprefix(start)
    raise UserError(
        "unknown-contender",
        f"unknown contender {name!r}. Choose one of {', '.join(CONTENDERS)}, where HEAD is one of "
        f"{', '.join(HEADS)}.",
    )
