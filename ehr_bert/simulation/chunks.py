"""Simulated patients by chunks, each with its own random generator."""

from dataclasses import asdict, dataclass, field
from datetime import date
from functools import cache, cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from ehr_bert.errors import UserError
from ehr_bert.simulation.coding import Coding, site_coding
from ehr_bert.simulation.conditions import load_conditions
from ehr_bert.simulation.initial import InitialStates
from ehr_bert.simulation.mechanism import Mechanism, Preset, mechanism_of
from ehr_bert.simulation.recording import draw_symptoms, record
from ehr_bert.simulation.records import SimulatedRecords
from ehr_bert.simulation.trajectories import (
    EXTRACTION,
    Entries,
    Trajectories,
    draw_entries,
    simulate_trajectories,
)
from ehr_bert.simulation.truth import TRUTH, RiskTables, landmarks, truth_rows

PATIENTS_PER_CHUNK = 10_000
"""Number of patients that are simulated at a time."""


@dataclass(frozen=True)
class PopulationSettings:
    """Settings of simulated patients and of their true risks.

    Attributes:
        patients: Number of patients. With the same seed, a smaller data set has the first patients of a
            larger one.
        visits: Approximate mean number of visits per patient.
        seed: Random seed.
        preset: The mechanism.
        informative_censoring: Share of the hazard of leaving that depends on hidden frailty, from 0 to 1.
        landmarks: Days for which true risks are computed.
        horizons: Horizons of the risks in days.

    Raises:
        UserError: A setting is out of range (key `invalid-setting`).
    """

    patients: int = 10_000
    visits: float = 20.0
    seed: int = 0
    preset: Preset = Preset.DEFAULT
    informative_censoring: float = 0.0
    landmarks: tuple[date, ...] = (date(2015, 1, 1),)
    horizons: tuple[int, ...] = (365, 1095)

    def __post_init__(self) -> None:
        if self.visits > MAX_MEAN_VISITS:
            raise UserError(
                "invalid-setting", f"visits must be {MAX_MEAN_VISITS} or fewer, not {self.visits}."
            )
        for key, least in (("patients", 1), ("visits", 3), ("seed", 0)):
            if not getattr(self, key) >= least:
                raise UserError(
                    "invalid-setting", f"{key} must be {least} or more, not {getattr(self, key)}."
                )
        if not 0 <= self.informative_censoring <= 1:
            raise UserError(
                "invalid-setting",
                f"informative_censoring must be from 0 to 1, not {self.informative_censoring}.",
            )
        if not self.horizons or min(self.horizons) < 1 or max(self.horizons) > MAX_HORIZON:
            raise UserError(
                "invalid-setting", f"horizons must be from 1 to {MAX_HORIZON} days, not {self.horizons}."
            )
        last = date.fromordinal(date(1970, 1, 1).toordinal() + EXTRACTION)
        for key, values in (("landmarks", self.landmarks), ("horizons", self.horizons)):
            if len(set(values)) < len(values):
                raise UserError("invalid-setting", f"{key} has a value twice. State each value once.")
        outside = [day for day in self.landmarks if not FIRST_LANDMARK <= day <= last]
        if outside:
            raise UserError(
                "invalid-setting",
                f"the landmark {outside[0]} is outside the simulated years. Choose days from "
                f"{FIRST_LANDMARK} to {last}.",
            )

    @property
    def chunk_numbers(self) -> range:
        """Numbers of the chunks."""
        return range(-(-self.patients // PATIENTS_PER_CHUNK))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings for JSON."""
        return asdict(self) | {
            "preset": self.preset.value,
            "landmarks": [day.isoformat() for day in self.landmarks],
            "horizons": list(self.horizons),
        }


MAX_MEAN_VISITS = 1000
"""Largest mean number of visits per patient."""

MAX_HORIZON = 3653
"""Longest horizon in days."""

FIRST_LANDMARK = date(2009, 1, 2)
"""First day at which a patient can be observed already."""


@dataclass(frozen=True)
class SimulatedChunk:
    """Records and true risks of some patients.

    Attributes:
        records: The records.
        truth: `TRUTH`, ordered by landmark, patient, outcome and horizon.
    """

    records: SimulatedRecords
    truth: pa.Table


@dataclass(frozen=True)
class SimulatedLives:
    """Events of the patients of a chunk.

    Attributes:
        entries: The patients at entry.
        trajectories: Their events.
        symptoms: The symptoms of the recorded events.
        rng: Random generator for what is drawn next.
    """

    entries: Entries
    trajectories: Trajectories
    symptoms: np.ndarray
    rng: np.random.Generator


@dataclass(frozen=True)
class SimulatedPopulation:
    """What all chunks share."""

    settings: PopulationSettings
    mechanism: Mechanism = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        mechanism = mechanism_of(settings.preset, settings.visits, settings.informative_censoring)
        object.__setattr__(self, "mechanism", mechanism)

    @property
    def initial(self) -> InitialStates:
        """Distribution of the states at entry."""
        return _initial_states(self.settings.preset)

    @cached_property
    def coding(self) -> Coding:
        """The codes that sites use."""
        return site_coding(load_conditions(), _generator(self.settings.seed))

    @cached_property
    def tables(self) -> RiskTables:
        """The true risks by state."""
        return RiskTables(self.mechanism, self.settings.horizons)

    def lives(self, number: int) -> SimulatedLives:
        """Simulate the events of a chunk. They depend only on the settings and its number."""
        rng = _generator(self.settings.seed, number)
        entries = draw_entries(self.initial, PATIENTS_PER_CHUNK, rng)
        trajectories = simulate_trajectories(self.mechanism, entries, rng)
        symptoms = draw_symptoms(self.mechanism, trajectories.recorded, rng)
        return SimulatedLives(entries, trajectories, symptoms, rng)

    def chunk(self, number: int) -> SimulatedChunk:
        """Simulate the records and true risks of a chunk."""
        before = number * PATIENTS_PER_CHUNK
        # The last chunk has all its patients too, so that they do not depend on the number to keep.
        kept = min(PATIENTS_PER_CHUNK, self.settings.patients - before)
        lives = self.lives(number)
        records = record(
            load_conditions(),
            self.coding,
            self.mechanism,
            lives.entries,
            lives.trajectories.recorded,
            lives.symptoms,
            number,
            before + 1,
            kept,
            lives.rng,
        )
        days = [(day - date(1970, 1, 1)).days for day in self.settings.landmarks]
        marks = landmarks(
            self.mechanism, self.initial, lives.entries, lives.trajectories, lives.symptoms, days
        )
        names = records.patients["patient_id"].combine_chunks()
        rows = [truth_rows(self.tables, lives.entries, marks[day], day, names) for day in days]
        return SimulatedChunk(records, pa.concat_tables([TRUTH.empty_table(), *rows]))


@cache
def _initial_states(preset: Preset) -> InitialStates:
    """Return the distribution of a preset, which the rates of visits and of leaving do not change."""
    return InitialStates.of(mechanism_of(preset, PopulationSettings.visits))


def _generator(seed: int, *chunk: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=chunk))
