"""Histories as diagnosis rows: the codes that sites and patients use, and the order and flags of a visit.

Dimensions: Z patients, C recorded diagnoses, F families of codes, N rows of the table.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ehr_bert.schemas import DIAGNOSES
from ehr_bert.simulation.choices import Choices
from ehr_bert.simulation.conditions import Conditions
from ehr_bert.simulation.histories import SimulatedHistories

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


def diagnoses(
    conditions: Conditions,
    coding: Coding,
    histories: SimulatedHistories,
    first_id: int,
    kept: int,
    rng: np.random.Generator,
) -> pa.Table:
    """Return the rows of the first patients, in order of patient, time and priority.

    Args:
        conditions: The conditions.
        coding: The codes that sites use.
        histories: Histories of Z patients.
        first_id: Id of the first patient.
        kept: Number of patients to return. Their rows do not depend on it.
        rng: Random generator.

    Returns:
        `DIAGNOSES`, without missing values.
    """
    patients, count = len(histories.prevalent), len(histories.visit)
    site = rng.integers(SITES, size=patients)
    habit = rng.random((patients, len(conditions.families)))  # [Z, F], quantiles of a family's codes
    visit, family = histories.visit, histories.family
    patient = histories.patient[visit]  # [C]
    system = histories.discharged[visit] >= ICD10_START
    quantile = np.where(rng.random(count) < HABITUAL_SHARE, habit[patient, family], rng.random(count))
    group = (2 * site[patient] + system) * len(conditions.families) + family
    code = coding.codes[coding.choices.draw(group, quantile)]

    acute = histories.inpatient[visit] & (family >= len(conditions.chronic))
    present = ~acute | (rng.random(count) < 0.75)
    sort_key = rng.random(count) - 0.6 * acute  # the reason for admission tends to be first
    repeated = np.flatnonzero(rng.random(count) < REPEATED_SHARE)
    row = np.concatenate([np.arange(count), repeated])
    sort_key = np.concatenate([sort_key, 1 + sort_key[repeated]])
    third_party = rng.random(count) < 0.05
    row = row[np.lexsort((sort_key, visit[row]))]
    row = row[patient[row] < kept]  # [N]
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
