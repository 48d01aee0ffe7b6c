"""A simulated chunk, shared by the tests of the simulation."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from ehr_bert.simulation.chunks import PopulationSettings, SimulatedChunk, SimulatedPopulation
from ehr_bert.simulation.initial import InitialStates
from ehr_bert.simulation.mechanism import Mechanism, Preset, mechanism_of
from ehr_bert.simulation.posterior import PosteriorFilter
from ehr_bert.simulation.recording import draw_symptoms
from ehr_bert.simulation.states import Transition
from ehr_bert.simulation.trajectories import Entries, Trajectories, draw_entries, simulate_trajectories

LANDMARK = int(np.datetime64("2015-01-01").astype(int))


@dataclass(frozen=True)
class Simulated:
    """Patients of one mechanism, their events, and the symptoms of `trajectories.recorded`."""

    mechanism: Mechanism
    initial: InitialStates
    entries: Entries
    trajectories: Trajectories
    symptoms: np.ndarray


@cache
def initial_states(preset: Preset) -> InitialStates:
    """Compute the distribution of the states at entry once."""
    return InitialStates.of(mechanism_of(preset, visits=20))


@cache
def simulated(
    preset: Preset,
    patients: int,
    seed: int = 0,
    informative_censoring: float = 0.0,
    leaving: float = 1.0,
    birth_years: int = 1,
) -> Simulated:
    """Simulate patients once.

    `leaving` multiplies the rate at which they leave. Only years of birth that are multiples of `birth_years`
    are kept, so that fewer risk tables are needed.
    """
    mechanism = mechanism_of(preset, 20, informative_censoring)
    mechanism.multiplier[Transition.LEAVING] *= leaving
    rng = np.random.default_rng(seed)
    entries = draw_entries(initial_states(preset), patients * birth_years, rng)
    kept = entries.birth_year % birth_years == 0
    entries = Entries(**{name: values[kept] for name, values in vars(entries).items()})
    trajectories = simulate_trajectories(mechanism, entries, rng)
    symptoms = draw_symptoms(mechanism, trajectories.recorded, rng)
    return Simulated(mechanism, initial_states(preset), entries, trajectories, symptoms)


def posterior_of(population: Simulated, patients: np.ndarray) -> PosteriorFilter:
    """Return the filter of some patients, at their entry."""
    return PosteriorFilter(
        population.mechanism,
        population.initial,
        population.entries,
        population.trajectories.recorded,
        population.symptoms,
        patients,
    )


def simulated_chunks(settings: PopulationSettings) -> list[SimulatedChunk]:
    """Simulate all chunks in this process."""
    population = SimulatedPopulation(settings)
    return [population.chunk(number) for number in settings.chunk_numbers]
