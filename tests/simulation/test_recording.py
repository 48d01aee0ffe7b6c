# Covers: ehr_bert.simulation.records
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ehr_bert.schemas import EVENTS, PATIENTS
from ehr_bert.simulation.coding import ICD10_START, site_coding
from ehr_bert.simulation.conditions import load_conditions
from ehr_bert.simulation.mechanism import Preset
from ehr_bert.simulation.recording import INFECTIONS, UNUSED, draw_symptoms, record
from ehr_bert.simulation.records import SimulatedRecords
from ehr_bert.simulation.states import DISEASES, Transition
from ehr_bert.simulation.trajectories import DAY, EXTRACTION, INTAKE
from tests.simulation.simulated import Simulated, simulated

COUNT = 1501
CONDITIONS = load_conditions()
FAMILY = {
    CONDITIONS.codes[index]: family.name
    for system in CONDITIONS.members
    for family, members in zip(CONDITIONS.families, system, strict=True)
    for index in members
}


@pytest.fixture(scope="module")
def population() -> Simulated:
    return simulated(Preset.DEFAULT, COUNT)


def records_of(population: Simulated, kept: int = COUNT) -> SimulatedRecords:
    rng = np.random.default_rng(8)
    coding = site_coding(CONDITIONS, np.random.default_rng(9))
    return record(
        CONDITIONS,
        coding,
        population.mechanism,
        population.entries,
        population.trajectories.recorded,
        population.symptoms,
        3,
        101,
        kept,
        rng,
    )


@pytest.fixture(scope="module")
def records(population: Simulated) -> SimulatedRecords:
    return records_of(population)


def test_tables_have_their_schemas(records: SimulatedRecords) -> None:
    assert records.patients.schema == PATIENTS
    assert records.events.drop_columns("visit_id").schema == EVENTS
    assert records.patients["patient_id"].to_pylist() == [str(101 + number) for number in range(COUNT)]
    for name in EVENTS.names:
        if not EVENTS.field(name).nullable:
            assert records.events[name].null_count == 0


def test_each_visit_records_something_at_its_own_days(records: SimulatedRecords) -> None:
    visits, events = records.visits.to_pandas(), records.events.to_pandas()
    assert visits.visit_id.is_unique
    assert set(events.visit_id) == set(visits.visit_id)
    joined = events.merge(visits, on="visit_id")
    assert (joined.patient_id_x == joined.patient_id_y).all()
    assert (joined.admit_date.astype("datetime64[s]") == joined.admitted.dt.normalize()).all()
    assert (joined.discharge_date.astype("datetime64[s]") == joined.discharged.dt.normalize()).all()
    assert ((joined.time >= joined.admitted) & (joined.time <= joined.discharged)).all()
    assert (joined.date.astype("datetime64[s]") == joined.time.dt.normalize()).all()
    assert (joined.time[~joined.inpatient] == joined.admitted[~joined.inpatient]).all()


def test_priorities_number_the_rows_of_a_visit(records: SimulatedRecords) -> None:
    by_visit = records.events.to_pandas().groupby("visit_id").priority
    assert (by_visit.min() == 1).all()
    assert (by_visit.max() == by_visit.size()).all()
    assert by_visit.apply(lambda values: values.is_monotonic_increasing).all()


def test_the_first_record_of_a_disease_is_its_onset(population: Simulated, records: SimulatedRecords) -> None:
    events = records.events.to_pandas()
    events["family"] = events.code.map(FAMILY)
    first = events[events.family.isin(DISEASES)].groupby(["patient_id", "family"]).time.min()
    expected = {}
    truth = population.trajectories.recorded
    for number, name in enumerate(DISEASES):
        onset = truth.kind == number
        for patient, time in zip(truth.patient[onset], truth.time[onset], strict=True):
            expected[str(101 + patient), name] = time
    intake = truth.time[truth.kind == INTAKE]
    for number, name in enumerate(DISEASES):
        if number < 6:
            has = population.entries.state // 12 >> (1 + number) & 1
        else:
            has = population.entries.leaves >> (number - 6) & 1
        for patient in np.flatnonzero(has):
            expected[str(101 + patient), name] = intake[patient]
    recorded = {key: int(value.timestamp()) for key, value in first.items()}
    assert recorded == expected


def test_infections_and_symptoms_are_recorded_where_they_were_drawn(
    population: Simulated, records: SimulatedRecords
) -> None:
    truth = population.trajectories.recorded
    families = records.events.to_pandas().code.map(FAMILY)
    events = records.events.to_pandas().assign(family=families)
    infections = events[events.family.isin(INFECTIONS)].drop_duplicates(["visit_id", "time", "family"])
    assert len(infections) == (truth.kind == Transition.ACUTE).sum()
    pairs = events[["visit_id", "family"]].drop_duplicates()
    for number, name in enumerate(population.mechanism.symptoms):
        assert (pairs.family == name).sum() == population.symptoms[:, number].sum()
    assert not families.isin(UNUSED).any()


def test_codes_change_with_the_discharge(records: SimulatedRecords) -> None:
    is_new = pc.starts_with(records.events["code"], "ICD10_").to_numpy()
    days = records.events["discharge_date"].to_numpy().astype("datetime64[D]").astype(int)
    assert np.array_equal(is_new, days >= ICD10_START)


def test_facts_of_patients_are_those_of_their_events(
    population: Simulated, records: SimulatedRecords
) -> None:
    patients, truth = records.patients.to_pandas(), population.trajectories
    died = truth.death > 0
    assert (patients.death_date.notna() == died).all()
    assert (patients.death_date[died].map(lambda day: (day - EPOCH).days) == truth.death[died] // DAY).all()
    end = patients.observation_end.map(lambda day: (day - EPOCH).days)
    assert (end == truth.last_day).all()
    assert ((patients.observation_end_reason == "enrolment") == (truth.last_day < EXTRACTION)).all()
    assert (patients.observation_start.map(lambda day: (day - EPOCH).days) == population.entries.entry).all()
    assert ((patients.sex == "M") == (population.entries.sex == 1)).all()


EPOCH = pa.scalar(0, pa.date32()).as_py()


def test_records_do_not_depend_on_the_number_of_patients(population: Simulated) -> None:
    some, every = records_of(population, 77), records_of(population)
    names = pa.array(some.patients["patient_id"].to_pylist())
    assert some.patients.equals(every.patients.slice(0, 77))
    for table, whole in ((some.events, every.events), (some.visits, every.visits)):
        assert table.equals(whole.filter(pc.is_in(whole["patient_id"], names)))


def test_symptoms_are_drawn_at_new_visits_with_their_probabilities(population: Simulated) -> None:
    truth = population.trajectories.recorded
    drawn = draw_symptoms(population.mechanism, truth, np.random.default_rng(4))
    assert not drawn[~truth.opens_visit].any()
    state = truth.state[truth.opens_visit] % 12
    for number, probability in enumerate(population.mechanism.symptoms.values()):
        expected = probability[state]
        error = np.sqrt((expected * (1 - expected)).sum())
        assert abs(drawn[:, number].sum() - expected.sum()) < 4 * error
