"""True risks at a separate day for each patient, estimated by sampling futures."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ehr_bert.errors import UserError
from ehr_bert.simulation.chunks import PATIENTS_PER_CHUNK, PopulationSettings, SimulatedPopulation
from ehr_bert.simulation.posterior import PosteriorFilter
from ehr_bert.simulation.risks import OUTCOMES
from ehr_bert.simulation.states import HIDDEN_STATES
from ehr_bert.simulation.trajectories import DAY, Entries
from ehr_bert.simulation.truth import has_outcomes, sampled_risks

SAMPLED_TRUTH = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("day", pa.date32(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("horizon_days", pa.int32(), nullable=False),
        pa.field("risk", pa.float64(), nullable=False),
        pa.field("standard_error", pa.float64(), nullable=False),
    ]
)
"""Estimated risks: one row per patient, day, outcome and horizon, for living, observed patients without the
outcome.

`risk` estimates the `risk` or `risk_without_death` of `TRUTH`, and `standard_error` is that of the sampling.
"""


def sampled_truth(
    settings: PopulationSettings, days: pa.Table, replicates: int = 200, with_death: bool = True
) -> pa.Table:
    """Estimate the true risks of patients at given days, from what was recorded before each day.

    Args:
        settings: The settings with which the patients were simulated; the horizons may differ.
        days: One row per patient and day: `patient_id` string and `day` date32. Patients may have several
            days.
        replicates: Number of sampled futures per patient and day, 2 or more. The error of a risk of 0.1 is
            0.02 with 200.
        with_death: Whether patients can die before an outcome.

    Returns:
        `SAMPLED_TRUTH`, in order of patient, day, outcome and horizon.

    Raises:
        UserError: A patient does not exist (key `unknown-patient`), or `replicates` is too small
            (`invalid-setting`).

    Example:
        >>> from datetime import date
        >>> days = pa.table({"patient_id": ["7"], "day": [date(2016, 5, 3)]})
        >>> truth = sampled_truth(PopulationSettings(patients=10, horizons=(365,)), days, replicates=50)
        >>> truth.schema.names[-2:]
        ['risk', 'standard_error']
    """
    if replicates < 2:
        raise UserError("invalid-setting", f"replicates must be 2 or more, not {replicates}.")
    numbers = _numbers(settings, days)
    queries = np.stack([numbers, days["day"].cast(pa.date32()).cast(pa.int32()).to_numpy()], axis=1)
    queries = np.unique(queries, axis=0)  # [N, 2], in order of patient and day
    population = SimulatedPopulation(settings)
    parts = [
        _of_chunk(
            population, chunk, queries[queries[:, 0] // PATIENTS_PER_CHUNK == chunk], replicates, with_death
        )
        for chunk in np.unique(queries[:, 0] // PATIENTS_PER_CHUNK).tolist()
    ]
    return pa.concat_tables([SAMPLED_TRUTH.empty_table(), *parts])


def _numbers(settings: PopulationSettings, days: pa.Table) -> np.ndarray:
    """Return the number of each patient, from 0."""
    ids = days["patient_id"].cast(pa.string()).combine_chunks()
    is_number = pc.match_substring_regex(ids, r"^[1-9][0-9]{0,17}$")
    numbers = pc.if_else(is_number, ids, "0").cast(pa.int64()).fill_null(0).to_numpy()
    unknown = ids.filter(pa.array((numbers < 1) | (numbers > settings.patients)))
    if len(unknown):
        raise UserError(
            "unknown-patient",
            f"the patient {unknown[0]} is not among the {settings.patients:,} simulated patients. Use the "
            "settings with which the patients were simulated.",
        )
    return numbers - 1


def _of_chunk(
    population: SimulatedPopulation, chunk: int, queries: np.ndarray, replicates: int, with_death: bool
) -> pa.Table:
    """Return the rows of patients of one chunk, from patients and days: int64 `[N, 2]`."""
    lives, settings = population.lives(chunk), population.settings
    entries, trajectories = lives.entries, lives.trajectories
    patient, day = queries[:, 0] - chunk * PATIENTS_PER_CHUNK, queries[:, 1]
    dies = np.where(trajectories.death > 0, trajectories.death, np.iinfo(np.int64).max)[patient]
    is_observed = (
        (entries.entry[patient] < day) & (trajectories.last_day[patient] >= day) & (dies >= day * DAY)
    )
    patient, day = patient[is_observed], day[is_observed]
    members, first, count = np.unique(patient, return_index=True, return_counts=True)
    posterior = PosteriorFilter(
        population.mechanism, population.initial, entries, trajectories.recorded, lives.symptoms, members
    )
    probabilities = np.empty((len(patient), HIDDEN_STATES))
    recorded, leaves = np.empty(len(patient), np.int64), np.empty(len(patient), np.int64)
    for turn in range(count.max(initial=0)):
        place = first + np.minimum(turn, count - 1)
        posterior.advance(day[place] * DAY)
        current = place[count > turn]
        probabilities[current] = posterior.probabilities[count > turn]
        recorded[current], leaves[current] = posterior.recorded[count > turn], posterior.leaves[count > turn]
    starting = Entries(
        entries.sex[patient], entries.birth_year[patient], day, leaves, recorded * HIDDEN_STATES
    )
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(chunk, 1)))
    risks, errors = sampled_risks(
        population.mechanism, starting, probabilities, settings.horizons, replicates, rng, with_death
    )
    is_free = ~has_outcomes(recorded, leaves)
    if not with_death:
        is_free[:, OUTCOMES.index("death")] = False
    person, outcome, horizon = np.nonzero(np.repeat(is_free[:, :, None], len(settings.horizons), axis=2))
    names = pa.array(chunk * PATIENTS_PER_CHUNK + 1 + patient).cast(pa.string())
    columns = {
        "patient_id": names.take(pa.array(person)),
        "day": pa.array(day[person].astype("datetime64[D]")),
        "outcome": pa.array(OUTCOMES).take(pa.array(outcome)),
        "horizon_days": pa.array(np.array(settings.horizons, np.int32)[horizon]),
        "risk": pa.array(risks[person, outcome, horizon]),
        "standard_error": pa.array(errors[person, outcome, horizon]),
    }
    return pa.table([columns[name] for name in SAMPLED_TRUTH.names], schema=SAMPLED_TRUTH)
