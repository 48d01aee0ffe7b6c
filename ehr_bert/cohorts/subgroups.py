"""Groups of a cohort's examples in which a model is looked at on its own."""

import numpy as np

from ehr_bert.cohorts.cohort import Cohort

SUBGROUP_AGES = (18, 45, 65, 80)
"""Where bands of age begin, in completed years."""

VISIT_BANDS = (1, 2, 3, 5, 10)
"""Where bands of the number of visits begin."""


def subgroups(cohort: Cohort) -> dict[str, np.ndarray]:
    """Who is in which group: by sex, by age at the index date, by visits up to it.

    Args:
        cohort: `N` examples.

    Returns:
        By the group's name, such as `sex F`, `age 45-64` or `visits 10+`, bool `[N]`. Empty groups are left
        out; who isn't known is in none.
    """
    known = [sex is not None for sex in cohort.sex]
    sexes = np.where(known, cohort.sex, "")
    groups = {f"sex {sex}": sexes == sex for sex in np.unique(sexes) if sex}
    groups |= _bands("age", cohort.age, (0, *SUBGROUP_AGES))
    groups |= _bands("visits", cohort.histories.visits, VISIT_BANDS)
    return {name: members for name, members in groups.items() if members.any()}


def _bands(title: str, values: np.ndarray, begins: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Who is from each begin to below the next, `[N]` each."""
    ends = (*(begin - 1 for begin in begins[1:]), None)
    return {
        f"{title} {_span(begin, end)}": (values >= begin) & (values < (np.inf if end is None else end + 1))
        for begin, end in zip(begins, ends, strict=True)
    }


def _span(begin: int, end: int | None) -> str:
    if end is None:
        return f"{begin}+"
    return str(begin) if begin == end else f"{begin}-{end}"
