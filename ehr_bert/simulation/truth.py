"""True risks of simulated patients at any day: from their record alone, and from everything."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa

from ehr_bert.simulation.initial import InitialStates
from ehr_bert.simulation.mechanism import Mechanism
from ehr_bert.simulation.posterior import PosteriorFilter
from ehr_bert.simulation.risks import OUTCOMES, RiskTable, risk_table
from ehr_bert.simulation.states import CORE_DISEASES, DISEASES, HIDDEN_STATES, LEAF_DISEASES, Transition
from ehr_bert.simulation.trajectories import DAY, Entries, Trajectories, continue_trajectories

TRUTH = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("landmark", pa.date32(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("horizon_days", pa.int32(), nullable=False),
        pa.field("risk", pa.float32(), nullable=False),
        pa.field("risk_without_death", pa.float32()),
        pa.field("full_risk", pa.float32(), nullable=False),
        pa.field("full_risk_without_death", pa.float32()),
    ]
)
"""True risks: one row per patient, landmark, outcome and horizon, for living, observed patients without the
outcome at the start of the day `landmark`.

`risk` is the probability that the outcome comes on one of the `horizon_days` days from the landmark on, given
everything recorded before that day; patients with an earlier death do not have it. `risk_without_death` is
the same if no patient died, null for the outcome `death`. `full_risk` and `full_risk_without_death` are the
risks given the hidden facts too.
"""


@dataclass(frozen=True)
class Landmark:
    """Patients at the start of a day, with what is known of them.

    Attributes:
        patients: Living, observed patients with an earlier entry: int64 `[N]`.
        probabilities: Probabilities of the hidden states given the record: float64 `[N, HIDDEN_STATES]`.
        recorded: Recorded part of the state: int64 `[N]`.
        leaves: Leaf flags: int64 `[N]`.
        state: True state: int64 `[N]`.
    """

    patients: np.ndarray
    probabilities: np.ndarray
    recorded: np.ndarray
    leaves: np.ndarray
    state: np.ndarray

    @property
    def has(self) -> np.ndarray:
        """Whether a patient has each of `OUTCOMES`: bool `[N, outcomes]`."""
        return has_outcomes(self.recorded, self.leaves)


def has_outcomes(recorded: np.ndarray, leaves: np.ndarray) -> np.ndarray:
    """Return whether living patients have each of `OUTCOMES`: bool `[N, outcomes]`.

    Args:
        recorded: Recorded part of the state: int64 `[N]`.
        leaves: Leaf flags: int64 `[N]`.
    """
    core = [recorded >> (1 + number) & 1 for number in range(len(CORE_DISEASES))]
    leaf = [leaves >> number & 1 for number in range(len(LEAF_DISEASES))]
    return np.stack([*core, *leaf, np.zeros_like(leaves)], axis=1) == 1


def landmarks(
    mechanism: Mechanism,
    initial: InitialStates,
    entries: Entries,
    trajectories: Trajectories,
    symptoms: np.ndarray,
    days: Sequence[int],
) -> dict[int, Landmark]:
    """Return the patients at the start of each day.

    Args:
        mechanism: The mechanism.
        initial: Distribution of the states at entry.
        entries: The patients.
        trajectories: All their events.
        symptoms: Symptoms of `trajectories.recorded`.
        days: Days since 1970-01-01.
    """
    dies = np.where(trajectories.death > 0, trajectories.death, np.iinfo(np.int64).max)
    present = {
        day: np.flatnonzero((entries.entry < day) & (trajectories.last_day >= day) & (dies >= day * DAY))
        for day in sorted(days)
    }
    members = np.unique(np.concatenate([*present.values(), np.empty(0, np.int64)])).astype(np.int64)
    posterior = PosteriorFilter(mechanism, initial, entries, trajectories.recorded, symptoms, members)
    event_key = trajectories.patient * _KEY + trajectories.time
    results = {}
    for day, patients in present.items():
        posterior.advance(day * DAY)
        places = np.searchsorted(members, patients)
        last = np.searchsorted(event_key, patients * _KEY + day * DAY) - 1
        results[day] = Landmark(
            patients=patients,
            probabilities=posterior.probabilities[places],
            recorded=posterior.recorded[places],
            leaves=posterior.leaves[places],
            state=trajectories.state[last],
        )
    return results


_KEY = 10**11
"""More than the seconds of any time. Patient times this plus the time sorts events."""


class RiskTables:
    """The risk tables of a mechanism, computed when they are first used.

    Args:
        mechanism: The mechanism.
        horizons: Horizons in days.
    """

    def __init__(self, mechanism: Mechanism, horizons: Sequence[int]) -> None:
        self.horizons = tuple(horizons)
        self.table = lru_cache(maxsize=None)(
            lambda sex, birth_year, day: risk_table(mechanism, sex, birth_year, day, horizons)
        )

    def risks(self, entries: Entries, landmark: Landmark, day: int) -> dict[str, np.ndarray]:
        """Return the risks of the patients of a landmark by column of `TRUTH`: `[N, outcomes, horizons]`."""
        shape = (len(landmark.patients), len(OUTCOMES), len(self.horizons))
        risks = {name: np.empty(shape) for name in TRUTH.names if "risk" in name}
        groups = entries.sex[landmark.patients] + 2 * entries.birth_year[landmark.patients]
        order = np.argsort(groups, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
            if not len(members):
                continue
            group = int(groups[members[0]])
            table: RiskTable = self.table(group % 2, group // 2, day)
            for suffix, by_state in (("", table.with_death), ("_without_death", table.without_death)):
                by_hidden = by_state.reshape(-1, HIDDEN_STATES, *shape[1:])[landmark.recorded[members]]
                risks[f"risk{suffix}"][members] = np.einsum(
                    "nz,nzoh->noh", landmark.probabilities[members], by_hidden
                )
                risks[f"full_risk{suffix}"][members] = by_state[landmark.state[members]]
        return risks


def truth_rows(
    tables: RiskTables, entries: Entries, landmark: Landmark, day: int, names: pa.Array
) -> pa.Table:
    """Return the rows of `TRUTH` of one landmark.

    Args:
        tables: The risk tables.
        entries: The patients.
        landmark: The landmark.
        day: Its day since 1970-01-01.
        names: Ids of the patients; those beyond its length are left out.
    """
    is_kept = landmark.patients < len(names)
    kept = Landmark(**{name: values[is_kept] for name, values in vars(landmark).items()})
    risks = tables.risks(entries, kept, day)
    at_risk = np.repeat(~kept.has[:, :, None], len(tables.horizons), axis=2)
    person, outcome, horizon = np.nonzero(at_risk)
    columns = {
        "patient_id": names.take(pa.array(kept.patients[person])),
        "landmark": pa.array(np.full(len(person), day).astype("datetime64[D]")),
        "outcome": pa.array(OUTCOMES).take(pa.array(outcome)),
        "horizon_days": pa.array(np.array(tables.horizons, np.int32)[horizon]),
    }
    for name, values in risks.items():
        columns[name] = pa.array(values[at_risk].astype(np.float32), from_pandas=True)
    return pa.table([columns[name] for name in TRUTH.names], schema=TRUTH)


def sampled_risks(
    mechanism: Mechanism,
    entries: Entries,
    probabilities: np.ndarray,
    horizons: Sequence[int],
    replicates: int,
    rng: np.random.Generator,
    with_death: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate risks by sampling, for patients whose days differ so much that no table serves many of them.

    Args:
        mechanism: The mechanism.
        entries: The patients; `entry` is the day from whose start on the risks count, and `state` the state
            at that time, of which the hidden part is replaced by a draw.
        probabilities: Probabilities of the hidden states: float64 `[N, HIDDEN_STATES]`.
        horizons: Horizons in days.
        replicates: Number of futures per patient, 2 or more.
        rng: Random generator.
        with_death: Whether patients can die before an outcome.

    Returns:
        The risks and their standard errors: float64 `[N, outcomes, horizons]` each. The error is that of a
        proportion, with one half of an event added, so that it is never 0.
    """
    future = replace(mechanism, multiplier=mechanism.multiplier.copy())
    future.multiplier[[Transition.VISIT, Transition.LEAVING]] = 0
    if not with_death:
        future.multiplier[Transition.DEATH] = 0
    count = len(entries.sex)
    counts = np.zeros((count, len(OUTCOMES), len(horizons)))
    below = np.cumsum(probabilities, axis=1)
    for _ in range(replicates):
        hidden = (rng.random((count, 1)) * below[:, -1:] >= below).sum(1)
        state = entries.state // HIDDEN_STATES * HIDDEN_STATES + hidden
        events = continue_trajectories(future, replace(entries, state=state), max(horizons), rng)
        is_outcome = (events.kind < len(DISEASES)) | (events.kind == Transition.DEATH)
        patient, kind = events.patient[is_outcome], events.kind[is_outcome]
        days = (events.time[is_outcome] - entries.entry[patient] * DAY) / DAY
        for number, horizon in enumerate(horizons):
            within = days < horizon
            counts[patient[within], kind[within], number] += 1
    smoothed = (counts + 0.5) / (replicates + 1)
    return counts / replicates, np.sqrt(smoothed * (1 - smoothed) / replicates)
