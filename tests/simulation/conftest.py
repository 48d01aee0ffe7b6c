import pytest

from ehr_bert.simulation.conditions import Conditions, load_conditions


@pytest.fixture(scope="session")
def conditions() -> Conditions:
    return load_conditions()
