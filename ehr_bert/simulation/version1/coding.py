"""Histories as diagnosis rows: the codes that sites and patients use, and the order and flags of a visit.

Dimensions: Z patients, C recorded diagnoses, F families of codes, N rows of the table.
"""

import numpy as np
import pyarrow as pa

from ehr_bert.schemas import DIAGNOSES
from ehr_bert.simulation.coding import HABITUAL_SHARE, ICD10_START, REPEATED_SHARE, SITES, Coding
from ehr_bert.simulation.conditions import Conditions
from ehr_bert.simulation.version1.histories import SimulatedHistories


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
