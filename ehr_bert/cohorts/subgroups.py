"""Subgroups of a cohort in which a model is evaluated separately."""

import numpy as np

from ehr_bert.cohorts.cohort import Cohort

SUBGROUP_AGES = (18, 45, 65, 80)
"""Lower limits of the age bands, in completed years. A first band starts at 0."""

VISIT_BANDS = (1, 2, 3, 5, 10)
"""Lower limits of the bands of the number of visits."""


def subgroups(cohort: Cohort) -> dict[str, np.ndarray]:
    """Return the members of each subgroup: by sex, by age at the index date, by visits up to it.

    Args:
        cohort: N examples.

    Returns:
        Masks by the name of the subgroup, such as `sex F`, `age 45-64` or `visits 10+`: bool `[N]`. Empty
        subgroups are omitted. Examples with an unknown value are in no subgroup of it.
    """
    known = [sex is not None for sex in cohort.sex]
    sexes = np.where(known, cohort.sex, "")
    groups = {f"sex {sex}": sexes == sex for sex in np.unique(sexes) if sex}
    groups |= _bands("age", cohort.age, (0, *SUBGROUP_AGES))
    groups |= _bands("visits", cohort.histories.visits, VISIT_BANDS)
    return {name: members for name, members in groups.items() if members.any()}


def _bands(title: str, values: np.ndarray, begins: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return a mask per band, from its lower limit to below the next: bool `[N]`."""
    ends = (*(begin - 1 for begin in begins[1:]), None)
    return {
        f"{title} {_band_name(begin, end)}": (values >= begin)
        & (values < (np.inf if end is None else end + 1))
        for begin, end in zip(begins, ends, strict=True)
    }


def _band_name(begin: int, end: int | None) -> str:
    if end is None:
        return f"{begin}+"
    return str(begin) if begin == end else f"{begin}-{end}"
