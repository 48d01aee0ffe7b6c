"""Histories as diagnosis rows: which code each site and patient uses, and the order and flags of a visit."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ehr_bert.schemas import DIAGNOSES
from ehr_bert.simulation.choices import Choices
from ehr_bert.simulation.conditions import Conditions
from ehr_bert.simulation.histories import SimulatedHistories

ICD10_BEGINS = np.datetime64("2015-10-01").astype(int)
"""Visits discharged from this day on are coded in ICD-10-CM."""

SITES = 12

LOYALTY = 0.7
"""Chance that a diagnosis gets the patient's habitual code."""

REPEATED = 0.02
"""Share of diagnoses that stand in their visit twice."""


@dataclass(frozen=True)
class Coding:
    """How sites code.

    Attributes:
        choices: A group for each site, system and family.
        codes: The code of each item of `choices`, an index into `Conditions.codes`.
    """

    choices: Choices
    codes: np.ndarray


def site_coding(conditions: Conditions, rng: np.random.Generator) -> Coding:
    """Draws how much each site uses each code of a family: falling by rank, times a log-normal."""
    groups = [codes for _ in range(SITES) for system in conditions.members for codes in system]
    weights = [np.arange(1, len(codes) + 1) ** -0.8 * rng.lognormal(0, 0.8, len(codes)) for codes in groups]
    return Coding(Choices(weights), np.concatenate(groups))


def diagnoses(
    conditions: Conditions,
    coding: Coding,
    histories: SimulatedHistories,
    first_id: int,
    kept: int,
    rng: np.random.Generator,
) -> pa.Table:
    """The rows of the first `kept` of `P` patients, in order of patient, time and priority.

    Args:
        conditions: What patients suffer from.
        coding: How sites code it.
        histories: `P` patients.
        first_id: Patients are numbered from here.
        kept: How many patients to return. They don't depend on it.
        rng: Source of all that is drawn.

    Returns:
        `DIAGNOSES`, without missing values.
    """
    patients, named = len(histories.prevalent), len(histories.visit)
    site = rng.integers(SITES, size=patients)
    habit = rng.random((patients, len(conditions.families)))  # [P, F], quantiles of a family's codes
    visit, family = histories.visit, histories.family
    patient = histories.patient[visit]  # [M]
    system = histories.discharged[visit] >= ICD10_BEGINS
    quantile = np.where(rng.random(named) < LOYALTY, habit[patient, family], rng.random(named))
    group = (2 * site[patient] + system) * len(conditions.families) + family
    code = coding.codes[coding.choices.draw(group, quantile)]

    acute = histories.inpatient[visit] & (family >= len(conditions.chronic))
    present = ~acute | (rng.random(named) < 0.75)
    place = rng.random(named) - 0.6 * acute  # an admission's reason tends to come first
    repeated = np.flatnonzero(rng.random(named) < REPEATED)
    row = np.concatenate([np.arange(named), repeated])
    place = np.concatenate([place, 1 + place[repeated]])
    third_party = rng.random(named) < 0.05
    row = row[np.lexsort((place, visit[row]))]
    row = row[patient[row] < kept]  # [R]
    visit = visit[row]
    priority = 1 + np.arange(len(row)) - np.searchsorted(visit, visit)
    columns = [
        pa.array(first_id + patient[row]).cast(pa.string()),
        pa.array(histories.admitted[visit].astype("datetime64[D]")),
        pa.array(histories.discharged[visit].astype("datetime64[D]")),
        pa.array(conditions.codes).take(pa.array(code[row])),
        *(pa.array(values.astype(np.int32)) for values in (present[row], priority, third_party[row])),
    ]
    return pa.table(columns, schema=DIAGNOSES)
