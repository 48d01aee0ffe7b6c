from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ehr_bert.simulation import chunks
from ehr_bert.simulation.chunks import PopulationSettings
from ehr_bert.simulation.mechanism import Preset
from ehr_bert.simulation.truth import TRUTH
from tests.simulation.simulated import simulated_chunks
from tests.user_errors import raises_user_error

LANDMARKS = (date(2012, 2, 29), date(2016, 7, 1))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "PATIENTS_PER_CHUNK", 23)


def settings(patients: int, **changes: object) -> PopulationSettings:
    return PopulationSettings(patients, **{"horizons": (90,), "landmarks": (), **changes})


def joined(several: list[chunks.SimulatedChunk]) -> tuple[pa.Table, ...]:
    tables = [(chunk.records.patients, chunk.records.visits, chunk.records.events) for chunk in several]
    return tuple(pa.concat_tables(parts) for parts in zip(*tables, strict=True))


def test_a_smaller_data_set_has_the_first_patients_of_a_larger_one() -> None:
    few = joined(simulated_chunks(settings(31)))
    many = joined(simulated_chunks(settings(70)))
    names = few[0]["patient_id"].combine_chunks()
    assert names.to_pylist() == [str(number) for number in range(1, 32)]
    for table, whole in zip(few, many, strict=True):
        assert table.equals(whole.filter(pc.is_in(whole["patient_id"], names)))


def test_visits_of_all_chunks_have_different_ids() -> None:
    _, visits, events = joined(simulated_chunks(settings(70)))
    assert len(visits["visit_id"].unique()) == visits.num_rows
    assert set(events["visit_id"].to_pylist()) == set(visits["visit_id"].to_pylist())


def test_seeds_and_presets_give_other_patients() -> None:
    one = joined(simulated_chunks(settings(20)))
    for changes in ({"seed": 1}, {"preset": Preset.CONSTANT_HAZARD}, {"visits": 9.0}):
        assert not joined(simulated_chunks(settings(20, **changes)))[2].equals(one[2])


def test_truth_covers_each_landmark_and_the_patients_observed_then() -> None:
    (chunk,) = simulated_chunks(settings(23, landmarks=LANDMARKS))
    assert chunk.truth.schema == TRUTH
    assert set(chunk.truth["landmark"].to_pylist()) == set(LANDMARKS)
    rows = chunk.truth.to_pandas().merge(chunk.records.patients.to_pandas(), on="patient_id")
    assert (rows.observation_start < rows.landmark).all()
    assert (rows.observation_end >= rows.landmark).all()
    assert (rows.death_date.isna() | (rows.death_date >= rows.landmark)).all()


def test_without_landmarks_there_is_no_truth() -> None:
    (chunk,) = simulated_chunks(settings(3))
    assert chunk.truth.num_rows == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"patients": 0},
        {"visits": 2.9},
        {"visits": float("nan")},
        {"visits": float("inf")},
        {"seed": -1},
        {"informative_censoring": 1.1},
        {"horizons": ()},
        {"horizons": (0,)},
        {"horizons": (4000,)},
        {"horizons": (365, 90, 365)},
        {"landmarks": (date(2015, 1, 1), date(2015, 1, 1))},
        {"landmarks": (date(2009, 1, 1),)},
        {"landmarks": (date(2021, 1, 1),)},
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object]) -> None:
    with raises_user_error("invalid-setting"):
        PopulationSettings(**{"patients": 5, **changes})
