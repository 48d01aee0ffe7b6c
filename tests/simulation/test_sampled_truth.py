from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ehr_bert.simulation import chunks, sampled_truth
from ehr_bert.simulation.chunks import PopulationSettings, SimulatedPopulation
from ehr_bert.simulation.sampled_truth import SAMPLED_TRUTH
from tests.user_errors import raises_user_error

LANDMARKS = (date(2013, 3, 9), date(2014, 12, 31), date(2015, 1, 1))
SETTINGS = PopulationSettings(patients=75, landmarks=LANDMARKS, horizons=(1000,))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "PATIENTS_PER_CHUNK", 40)
    monkeypatch.setattr(sampled_truth, "PATIENTS_PER_CHUNK", 40)


def days_of(pairs: list[tuple[str, date]]) -> pa.Table:
    names, days = zip(*pairs, strict=True)
    return pa.table({"patient_id": pa.array(names, pa.string()), "day": pa.array(days, pa.date32())})


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "PATIENTS_PER_CHUNK", 40)
        population = SimulatedPopulation(SETTINGS)
        return pd.concat([population.chunk(number).truth.to_pandas() for number in (0, 1)])


@pytest.mark.parametrize("with_death", [True, False])
def test_estimates_agree_with_the_computed_risks(truth: pd.DataFrame, with_death: bool) -> None:
    days = days_of([(str(number), day) for number in (1, 2, 33, 40, 41, 75) for day in LANDMARKS])
    estimates = sampled_truth.sampled_truth(SETTINGS, days, 400, with_death).to_pandas()
    expected = truth.rename(columns={"landmark": "day"})
    expected = expected[expected.patient_id.isin(days["patient_id"].to_pylist())]
    if not with_death:
        expected = expected.assign(risk=expected.risk_without_death).dropna(subset="risk")
    keys = ["patient_id", "day", "outcome", "horizon_days"]
    both = expected.merge(estimates, on=keys, how="outer", suffixes=("", "_sampled"))
    assert len(both) == len(expected) == len(estimates) > 50
    variance = both.risk * (1 - both.risk) / 400
    for _, group in both.assign(variance=variance).groupby("outcome"):
        difference = (group.risk_sampled - group.risk).sum()
        # Days of one patient share no draws, so that their errors add up.
        assert abs(difference) < 4.5 * np.sqrt(group.variance.sum()) + 1e-3


def test_rows_do_not_depend_on_the_order_of_the_days() -> None:
    pairs = [("41", LANDMARKS[2]), ("2", LANDMARKS[0]), ("2", LANDMARKS[2])]
    one = sampled_truth.sampled_truth(SETTINGS, days_of(pairs), 3)
    other = sampled_truth.sampled_truth(SETTINGS, days_of(pairs[::-1] + pairs), 3)
    assert one.schema == SAMPLED_TRUTH
    assert one.equals(other)


def test_days_outside_the_observation_have_no_rows() -> None:
    first = SimulatedPopulation(replace(SETTINGS, landmarks=())).chunk(0).records.patients.to_pylist()[0]
    entry = first["observation_start"]
    pairs = [("1", entry), ("1", first["observation_end"] + timedelta(1))]
    assert sampled_truth.sampled_truth(SETTINGS, days_of(pairs), 3).num_rows == 0
    later = days_of([("1", entry + timedelta(1))])
    assert sampled_truth.sampled_truth(SETTINGS, later, 3).num_rows > 0


@pytest.mark.parametrize("name", ["0", "76", "01", "x", "-1", "9" * 30])
def test_unknown_patients_are_refused(name: str) -> None:
    with raises_user_error("unknown-patient", name):
        sampled_truth.sampled_truth(SETTINGS, days_of([(name, LANDMARKS[0])]), 3)


def test_one_future_is_too_few() -> None:
    with raises_user_error("invalid-setting", "1"):
        sampled_truth.sampled_truth(SETTINGS, days_of([("1", LANDMARKS[0])]), 1)
