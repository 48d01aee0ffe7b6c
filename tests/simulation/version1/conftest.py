import numpy as np
import pytest

from ehr_bert.simulation.conditions import Conditions
from ehr_bert.simulation.version1.histories import SimulatedHistories, simulate_histories
from ehr_bert.simulation.version1.outcome import SimulatedCohort, add_outcome


@pytest.fixture(scope="session")
def before(conditions: Conditions) -> SimulatedHistories:
    """Histories without new cases of the outcome."""
    return simulate_histories(conditions, 1501, 13.0, np.random.default_rng(7))


@pytest.fixture(scope="session")
def with_outcome(
    conditions: Conditions, before: SimulatedHistories
) -> tuple[SimulatedHistories, SimulatedCohort]:
    return add_outcome(conditions, before, np.random.default_rng(11))
