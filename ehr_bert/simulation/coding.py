"""The codes that sites use, and how often."""

from dataclasses import dataclass

import numpy as np

from ehr_bert.simulation.choices import Choices
from ehr_bert.simulation.conditions import Conditions

ICD10_START = np.datetime64("2015-10-01").astype(int)
"""Visits discharged on or after this day have ICD-10-CM codes."""

SITES = 12
"""Number of sites."""

HABITUAL_SHARE = 0.7
"""Probability that a diagnosis has the patient's habitual code."""

REPEATED_SHARE = 0.02
"""Share of diagnoses that are recorded twice at a visit."""


@dataclass(frozen=True)
class Coding:
    """The codes that sites use.

    Attributes:
        choices: One group per site, system and family.
        codes: Code of each item of `choices`, as an index into `Conditions.codes`.
    """

    choices: Choices
    codes: np.ndarray


def site_coding(conditions: Conditions, rng: np.random.Generator) -> Coding:
    """Draw how often each site uses each code of a family: decreasing with rank, times a log-normal."""
    groups = [codes for _ in range(SITES) for system in conditions.members for codes in system]
    weights = [np.arange(1, len(codes) + 1) ** -0.8 * rng.lognormal(0, 0.8, len(codes)) for codes in groups]
    return Coding(Choices(weights), np.concatenate(groups))
