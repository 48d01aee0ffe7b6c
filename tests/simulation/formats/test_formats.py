# Covers: ehr_bert.simulation.formats.coded, ehr_bert.simulation.formats.extracted,
# ehr_bert.simulation.formats.fhir, ehr_bert.simulation.formats.meds, ehr_bert.simulation.formats.omop,
# ehr_bert.simulation.formats.parts, ehr_bert.simulation.formats.record_format,
# ehr_bert.simulation.formats.registry, ehr_bert.simulation.formats.tutorial
"""The same simulated patients in every format, as the readers of this package and others read them."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from ehr_bert.engines import DuckDBEngine, Engine
from ehr_bert.schemas import DIAGNOSES, EVENTS, PATIENTS, Split
from ehr_bert.sequences.building import build_histories
from ehr_bert.simulation import chunks
from ehr_bert.simulation.chunks import PopulationSettings
from ehr_bert.simulation.formats.omop import FIRST_CONCEPT
from ehr_bert.simulation.formats.registry import RECORD_FORMATS
from ehr_bert.simulation.formats.tutorial import TUTORIAL_COLUMNS, tsv_options
from ehr_bert.simulation.records import SimulatedRecords
from ehr_bert.simulation.simulate import simulate
from ehr_bert.sources import read_events
from ehr_bert.sources.extraction import write_extracted_folder
from ehr_bert.sources.records import NestedVisits, WithoutVisit
from ehr_bert.sources.registry import STORES
from ehr_bert.sources.tables import opened_tables
from tests.sequences.decoding import decoded_sequences
from tests.simulation.simulated import simulated_chunks

SETTINGS = PopulationSettings(patients=230, visits=12, seed=5, landmarks=())
ORDERING = ["present_on_admission", "priority", "third_party"]
FACTS = ["patient_id", "birth_date", "sex", "death_date"]


@pytest.fixture(scope="module", autouse=True)
def small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "PATIENTS_PER_CHUNK", 90)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, small_chunks: None) -> dict[str, Path]:
    """The simulated data set in every format."""
    folder = tmp_path_factory.mktemp("formats")
    for name in RECORD_FORMATS:
        simulate(folder / name, SETTINGS, name, workers=1)  # processes have chunks of the real size
    return {name: folder / name for name in RECORD_FORMATS}


@pytest.fixture(scope="module")
def records(small_chunks: None) -> SimulatedRecords:
    """The same patients as tables."""
    parts = [chunk.records for chunk in simulated_chunks(SETTINGS)]
    return SimulatedRecords(
        *(
            pa.concat_tables(getattr(part, name) for part in parts)
            for name in ("patients", "visits", "events")
        )
    )


@pytest.fixture(scope="module")
def without_ordering(records: SimulatedRecords) -> pa.Table:
    """The events without the three columns that order the codes of a visit."""
    events = records.events.select(EVENTS.names)
    for name in ORDERING:
        place = EVENTS.get_field_index(name)
        events = events.set_column(place, EVENTS.field(name), pa.nulls(events.num_rows, pa.int32()))
    return events


def sequences(engine: Engine, path: Path) -> dict[str, dict[str, list]]:
    """The sequences of all splits by patient, with codes instead of ids."""
    built = build_histories(engine, read_events(engine, path), seed=0)
    splits = decoded_sequences(engine, built, built.vocabulary(None, *Split))
    return {patient: row for patients in splits.values() for patient, row in patients.items()}


def extracted(engine: Engine, store: str, source: Path, output: Path) -> Path:
    with opened_tables(engine, str(source), output.parent) as tables:
        read = STORES[store].records(tables)
        options = WithoutVisit.REJECT, NestedVisits.KEEP
        summary = write_extracted_folder(engine, read, tables.where, output, *options)
    assert not summary["rows"]["rejected"]
    return output


@pytest.fixture(scope="module")
def stores(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The extracted folders of the stores."""
    folder = tmp_path_factory.mktemp("extracted")
    with DuckDBEngine(folder, memory_limit="1GB", threads=2) as engine:
        return {name: extracted(engine, name, folders[name], folder / name) for name in ("omop", "meds")}


def written_events(events: pa.Table, record_format: str, folder: Path) -> Path:
    if record_format == "parquet":
        pq.write_table(events, folder / "events.parquet")
        return folder / "events.parquet"
    rows = events.select(DIAGNOSES.names).rename_columns(TUTORIAL_COLUMNS)
    csv.write_csv(rows, folder / "data_file.tsv", tsv_options())
    return folder / "data_file.tsv"


def test_tsv_and_parquet_give_the_same_sequences(folders: dict[str, Path], engine: DuckDBEngine) -> None:
    parquet = sequences(engine, folders["parquet"])
    assert len(parquet) == SETTINGS.patients
    assert sequences(engine, folders["tsv"] / "data_file.tsv") == parquet


def test_all_readers_give_the_same_sequences_but_for_the_recorded_order(
    stores: dict[str, Path], without_ordering: pa.Table, engine: DuckDBEngine, tmp_path: Path
) -> None:
    tsv = sequences(engine, written_events(without_ordering, "tsv", tmp_path))
    assert len(tsv) == SETTINGS.patients
    assert sequences(engine, written_events(without_ordering, "parquet", tmp_path)) == tsv
    for folder in stores.values():
        assert sequences(engine, folder) == tsv


@pytest.mark.slow
@pytest.mark.spark
def test_spark_reads_the_same_sequences(
    folders: dict[str, Path], without_ordering: pa.Table, spark: Engine, engine: DuckDBEngine, tmp_path: Path
) -> None:
    folder = extracted(spark, "meds", folders["meds"], tmp_path / "meds")
    tsv = written_events(without_ordering, "tsv", tmp_path)
    assert sequences(spark, folder) == sequences(engine, tsv)


def test_patients_are_the_same_in_every_format_that_has_the_facts(
    folders: dict[str, Path], stores: dict[str, Path], records: SimulatedRecords
) -> None:
    expected = records.patients.sort_by("patient_id")
    assert 0 < expected["death_date"].null_count < expected.num_rows
    for name in ("tsv", "parquet"):
        patients = pq.read_table(folders[name] / "patients.parquet").sort_by("patient_id")
        assert patients.equals(expected.select(PATIENTS.names))
    for store, known in (("omop", [*FACTS, "observation_start", "observation_end"]), ("meds", FACTS)):
        patients = pq.read_table(stores[store] / "patients.parquet").sort_by("patient_id")
        assert patients.select(known).equals(expected.select(known))


@pytest.mark.parametrize("store", ["omop", "meds"])
def test_times_survive_to_the_second(stores: dict[str, Path], records: SimulatedRecords, store: str) -> None:
    columns = ["patient_id", "admit_date", "discharge_date", "date", "time", "kind", "code"]
    read = pq.read_table(stores[store] / "events").select(columns).to_pylist()
    expected = records.events.select(columns).to_pylist()
    assert {tuple(row.values()) for row in read} == {tuple(row.values()) for row in expected}


def test_an_extracted_folder_has_the_event_table(folders: dict[str, Path], records: SimulatedRecords) -> None:
    assert len(list((folders["parquet"] / "events").iterdir())) == 3
    assert pq.read_table(folders["parquet"] / "events").equals(records.events.select(EVENTS.names))


def test_omop_has_times_and_concepts(folders: dict[str, Path], records: SimulatedRecords) -> None:
    conditions = pq.read_table(folders["omop"] / "condition_occurrence").to_pandas()
    concepts = pq.read_table(folders["omop"] / "concept.parquet").to_pandas()
    events = records.events.to_pandas()
    assert conditions["condition_occurrence_id"].is_unique
    assert (conditions["condition_start_datetime"] == events["time"]).all()
    assert (conditions["condition_start_date"] == events["date"]).all()
    assert (conditions["visit_occurrence_id"] == events["visit_id"]).all()
    coded = conditions.merge(concepts, left_on="condition_source_concept_id", right_on="concept_id")
    assert len(coded) == len(events)
    assert (concepts["concept_id"] >= FIRST_CONCEPT).all()
    prefix = coded["vocabulary_id"].map({"ICD9CM": "ICD9_", "ICD10CM": "ICD10_"})
    assert list(prefix + coded["concept_code"]) == list(events["code"])
    visits = pq.read_table(folders["omop"] / "visit_occurrence").to_pandas()
    assert (visits["visit_start_datetime"] == records.visits["admitted"].to_pandas()).all()
    assert (visits["visit_end_datetime"] == records.visits["discharged"].to_pandas()).all()
    assert ((visits["visit_concept_id"] == 9201) == records.visits["inpatient"].to_pandas()).all()


def test_meds_data_are_sorted_and_described(folders: dict[str, Path], records: SimulatedRecords) -> None:
    metadata = folders["meds"] / "metadata"
    splits = pq.read_table(metadata / "subject_splits.parquet").to_pandas().set_index("subject_id")["split"]
    assert sorted(splits.index) == sorted(map(int, records.patients["patient_id"].to_pylist()))
    assert set(splits) == {"train", "tuning", "held_out"}
    described = set(pq.read_table(metadata / "codes.parquet")["code"].to_pylist())
    files = sorted((folders["meds"] / "data").glob("*/*.parquet"))
    diagnoses = []
    for file in files:
        data = pq.read_table(file).to_pandas()
        assert set(data["subject_id"].map(splits)) == {file.parent.name}
        in_order = data.sort_values(["subject_id", "time"], na_position="first", kind="stable")
        assert in_order.index.equals(data.index)
        assert (data.groupby("subject_id")["code"].last() != "MEDS_BIRTH").all()
        diagnoses.append(data[data["code"].str.startswith("ICD")])
    rows = pd.concat(diagnoses)
    assert set(rows["code"]) == described
    times = records.events.to_pandas().assign(subject_id=lambda row: row["patient_id"].astype(int))
    order = ["subject_id", "time"]
    assert list(rows.sort_values(order)["time"]) == list(times.sort_values(order)["time"])
    assert json.loads((metadata / "dataset.json").read_text())["meds_version"] == "0.4.0"


def resources(folder: Path, kind: str) -> list[dict]:
    lines = (folder / f"{kind}.ndjson").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_fhir_resources_have_the_records_and_refer_to_each_other(
    folders: dict[str, Path], records: SimulatedRecords
) -> None:
    patients, encounters, conditions = (
        resources(folders["fhir"], kind) for kind in ("Patient", "Encounter", "Condition")
    )
    read = [
        (row["id"], row["birthDate"], row["gender"][0].upper(), row.get("deceasedDateTime"))
        for row in patients
    ]
    assert read == [
        (row["patient_id"], str(row["birth_date"]), row["sex"], row["death_date"] and str(row["death_date"]))
        for row in records.patients.to_pylist()
    ]
    for encounter, visit in zip(encounters, records.visits.to_pylist(), strict=True):
        assert encounter["id"] == str(visit["visit_id"])
        assert encounter["subject"]["reference"] == f"Patient/{visit['patient_id']}"
        period = [datetime.fromisoformat(encounter["period"][side]) for side in ("start", "end")]
        assert [time.replace(tzinfo=None) for time in period] == [visit["admitted"], visit["discharged"]]
        assert (encounter["class"]["code"] == "IMP") == visit["inpatient"]
    rank = {
        diagnosis["condition"]["reference"]: diagnosis["rank"]
        for encounter in encounters
        for diagnosis in encounter["diagnosis"]
    }
    for condition, event in zip(conditions, records.events.to_pylist(), strict=True):
        assert condition["subject"]["reference"] == f"Patient/{event['patient_id']}"
        assert condition["encounter"]["reference"] == f"Encounter/{event['visit_id']}"
        assert condition["recordedDate"] == f"{event['time'].isoformat()}Z"
        (coding,) = condition["code"]["coding"]
        prefix = coding["system"].removeprefix("http://hl7.org/fhir/sid/icd-").removesuffix("-cm")
        assert f"ICD{prefix}_{coding['code']}" == event["code"]
        assert rank[f"Condition/{condition['id']}"] == event["priority"]
    assert len({condition["id"] for condition in conditions}) == len(conditions)


def test_no_part_of_a_joined_file_remains(folders: dict[str, Path]) -> None:
    for name, folder in folders.items():
        assert not (folder / "parts").exists(), name


def test_times_are_those_of_the_visit_or_within_it(records: SimulatedRecords) -> None:
    events = records.events.to_pandas().merge(records.visits.to_pandas(), on="visit_id")
    assert events["time"].between(events["admitted"], events["discharged"]).all()
    assert pc.all(pc.equal(records.events["time"].cast(pa.date32()), records.events["date"])).as_py()
