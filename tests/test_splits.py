import hashlib

import pyarrow as pa
import pytest

from ehr_bert.engines import DuckDBEngine
from ehr_bert.schemas import Split
from ehr_bert.splits import sample_of, split_of, with_split


def splits(engine: DuckDBEngine, patients: list[str], seed: int) -> dict[str, str]:
    table = engine.load(pa.table({"patient_id": pa.array(patients, pa.string())}))
    rows = engine.collect(table.mutate(split=split_of(table.patient_id, seed)))
    return dict(zip(rows["patient_id"].to_pylist(), rows["split"].to_pylist(), strict=True))


def test_patients_are_split_7_1_2(engine: DuckDBEngine) -> None:
    assigned = list(splits(engine, [str(patient) for patient in range(20_000)], seed=0).values())
    for split, share in zip(Split, (0.7, 0.1, 0.2), strict=True):
        assert assigned.count(split.value) / 20_000 == pytest.approx(share, abs=0.01)


def test_a_patient_stays_in_its_split_when_others_are_added(engine: DuckDBEngine) -> None:
    few = splits(engine, [str(patient) for patient in range(100)], seed=3)
    many = splits(engine, [str(patient) for patient in range(1_000)], seed=3)
    assert few.items() <= many.items()
    assert splits(engine, list(few), seed=4) != few


def test_a_split_depends_on_the_md5_of_seed_and_patient(engine: DuckDBEngine) -> None:
    patients = [*map(str, range(50)), "a", "ä"]

    def expected(patient: str) -> str:
        share = int(hashlib.md5(f"split 5 {patient}".encode()).hexdigest(), 16) / 16**32
        return "train" if share < 0.7 else "valid" if share < 0.8 else "test"

    assert splits(engine, patients, seed=5) == {patient: expected(patient) for patient in patients}


def test_a_sample_is_independent_of_the_split(engine: DuckDBEngine) -> None:
    patients = engine.load(pa.table({"patient_id": [str(patient) for patient in range(10_000)] * 2}))
    sample = engine.collect(sample_of(patients, 1_000, seed=0))["patient_id"].to_pylist()
    assert len(set(sample)) == 1_000
    sampled = list(splits(engine, sample, seed=0).values())
    assert sampled.count("train") / 1_000 == pytest.approx(0.7, abs=0.05)


def test_a_split_that_the_source_gives_is_kept(engine: DuckDBEngine) -> None:
    patients = [str(patient) for patient in range(40)]
    table = engine.load(pa.table({"patient_id": patients * 2}))
    given = engine.load(pa.table({"patient_id": [*patients[:20], "x"], "split": ["valid"] * 21}))
    rows = engine.collect(with_split(table, 3, given))
    assigned = dict(zip(rows["patient_id"].to_pylist(), rows["split"].to_pylist(), strict=True))
    assert rows.num_rows == 80
    assert assigned == splits(engine, patients, seed=3) | dict.fromkeys(patients[:20], "valid")
