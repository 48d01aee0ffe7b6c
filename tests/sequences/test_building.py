# Covers: ehr_bert.sequences.histories, ehr_bert.sequences.tokens
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ehr_bert.engines import DuckDBEngine
from ehr_bert.engines import duckdb as duckdb_engine
from ehr_bert.schemas import DIAGNOSES, Split
from ehr_bert.sequences.building import build_histories
from ehr_bert.sequences.histories import SortKeyBits, code_ranks, histories, ordering_ranks
from ehr_bert.simulation.version1.simulate import Version1Settings, simulate_version1
from ehr_bert.sources import read_tutorial_table
from tests.sequences.decoding import decoded_sequences
from tests.sequences.messy import messy_rows, write_tutorial_table
from tests.sequences.reference import reference
from tests.user_errors import raises_user_error

PATIENTS = 5_000


def decoded(engine: DuckDBEngine, table: Path, seed: int = 0) -> dict[str, dict[str, list]]:
    """The sequences of all splits by patient, with codes instead of ids."""
    built = build_histories(engine, read_tutorial_table(engine, table), seed)
    splits = decoded_sequences(engine, built, built.vocabulary(None, *Split))
    return {patient: row for patients in splits.values() for patient, row in patients.items()}


def test_every_history_equals_that_of_the_reference(engine: DuckDBEngine, tmp_path: Path) -> None:
    rows = messy_rows(PATIENTS, seed=1)
    patients = decoded(engine, write_tutorial_table(tmp_path / "table.tsv", rows))
    assert len(patients) > 0.99 * PATIENTS
    assert patients == reference(rows)
    assert min(min(row["days_to_next"]) for row in patients.values()) < 0


@pytest.mark.slow
def test_simulated_histories_equal_those_of_the_reference(engine: DuckDBEngine, tmp_path: Path) -> None:
    simulate_version1(tmp_path / "simulated", Version1Settings(patients=PATIENTS))
    table = tmp_path / "simulated" / "data_file.tsv"
    rows = pd.read_csv(table, sep="\t", header=0, names=DIAGNOSES.names, dtype={"patient_id": str})
    for column in ("admit_date", "discharge_date"):
        rows[column] = pd.to_datetime(rows[column]).dt.date
    patients = decoded(engine, table)
    assert len(patients) == PATIENTS
    assert patients == reference(rows)


def test_histories_do_not_depend_on_the_parts(
    engine: DuckDBEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = messy_rows(200, seed=2)
    table = write_tutorial_table(tmp_path / "table.tsv", rows)
    monkeypatch.setattr(duckdb_engine, "_AGGREGATED_BYTES", 2_000_000)
    built = build_histories(engine, read_tutorial_table(engine, table), seed=0)
    assert len(built.parts) > 2
    ids = [engine.collect(part.order_by("patient_id"))["patient_id"].to_pylist() for part in built.parts]
    assert [patient for part in ids for patient in part] == sorted(set(rows["patient_id"]))
    assert decoded(engine, table) == reference(rows)


def test_counts_are_patients_and_visits_of_each_code(engine: DuckDBEngine, tmp_path: Path) -> None:
    rows = messy_rows(300, seed=3)
    table = write_tutorial_table(tmp_path / "table.tsv", rows)
    built = build_histories(engine, read_tutorial_table(engine, table), seed=0)
    counts = {count.code: (count.patients, count.occurrences) for count in built.code_counts(*Split)}
    visits = rows.drop_duplicates(["patient_id", "discharge_date", "code"]).groupby("code")["patient_id"]
    assert counts == {code: (group.nunique(), len(group)) for code, group in visits}


def test_a_sample_does_not_depend_on_the_order_of_rows(engine: DuckDBEngine, tmp_path: Path) -> None:
    rows = messy_rows(200, seed=4)
    samples = []
    for number, order in enumerate((rows, rows.iloc[::-1])):
        table = write_tutorial_table(tmp_path / f"{number}.tsv", order)
        built = build_histories(engine, read_tutorial_table(engine, table), seed=5, sample_size=17)
        samples.append(engine.collect(built.table.order_by("patient_id"))["patient_id"].to_pylist())
        assert built.tally.sampled == rows["patient_id"].isin(samples[-1]).sum()
    assert samples[0] == samples[1]
    assert len(samples[0]) == 17


def diagnoses_table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=DIAGNOSES)


DAYS = st.integers(0, 6).map(lambda days: date(2014, 1, 1) + timedelta(days))
ORDERINGS = st.sampled_from([None, -1, 0, 32_766, -32_766])
DIAGNOSIS_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "patient_id": st.sampled_from(["1", "01", "ä"]),
            "discharge_date": DAYS,
            "stay": st.integers(0, 9),
            "code": st.sampled_from(["A", "B", "a", "Z"]),
            "present_on_admission": ORDERINGS,
            "priority": st.sampled_from([None, 0, 2**31 - 2, -(2**31) + 2]),
            "third_party": ORDERINGS,
        }
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=DIAGNOSIS_ROWS)
def test_histories_of_any_table_equal_those_of_the_reference(engine: DuckDBEngine, drawn: list[dict]) -> None:
    rows = [
        {**{name: row[name] for name in row if name != "stay"}}
        | {"admit_date": row["discharge_date"] - timedelta(row["stay"])}
        for row in drawn
    ]
    diagnoses = engine.load(diagnoses_table(rows))
    codes = code_ranks(diagnoses)
    result = engine.collect(
        histories(diagnoses, codes, ordering_ranks(diagnoses), SortKeyBits.for_ranks(9, 9), seed=0)
    ).to_pylist()
    names = {row["code_rank"]: row["code"] for row in engine.collect(codes).to_pylist()}
    frame = pd.DataFrame(rows).astype(
        dict.fromkeys(("present_on_admission", "priority", "third_party"), "float64")
    )
    expected = reference(frame)
    assert {row["patient_id"] for row in result} == set(expected)
    assert sum(row["diagnoses"] for row in result) == len(rows)
    for row in result:
        row["codes"] = [names[rank] for rank in row.pop("code_ranks")]
        assert {name: row[name] for name in expected[row["patient_id"]]} == expected[row["patient_id"]]


def one_patient(engine: DuckDBEngine, *rows: tuple[str, str, str]) -> dict:
    """The history of a patient with (admitted, discharged, code) rows."""
    table = diagnoses_table(
        [
            {
                "patient_id": "p",
                "admit_date": date.fromisoformat(admitted),
                "discharge_date": date.fromisoformat(discharged),
                "code": code,
            }
            for admitted, discharged, code in rows
        ]
    )
    diagnoses = engine.load(table)
    expression = histories(
        diagnoses, code_ranks(diagnoses), ordering_ranks(diagnoses), SortKeyBits.for_ranks(9, 9), seed=0
    )
    (row,) = engine.collect(expression).to_pylist()
    return row


def test_a_code_counts_once_per_visit(engine: DuckDBEngine) -> None:
    row = one_patient(
        engine,
        ("2014-01-01", "2014-01-03", "A"),
        ("2014-01-02", "2014-01-03", "A"),
        ("2014-02-01", "2014-02-03", "A"),
    )
    assert row["code_ranks"] == [0, 0]
    assert row["visit_ids"] == [1, 2]
    assert row["diagnoses"] == 3


def test_a_visit_starts_with_its_earliest_admission(engine: DuckDBEngine) -> None:
    row = one_patient(engine, ("2014-01-02", "2014-01-03", "A"), ("2013-12-31", "2014-01-03", "B"))
    assert row["admit_date"] == [date(2013, 12, 31)]
    assert row["los_days"] == [3]


def test_overlapping_stays_have_a_negative_gap(engine: DuckDBEngine) -> None:
    row = one_patient(engine, ("2014-01-01", "2014-01-10", "A"), ("2014-01-05", "2014-01-12", "B"))
    assert row["days_to_next"] == [-5, 0]


def test_splits_that_the_source_gives_are_kept(engine: DuckDBEngine, tmp_path: Path) -> None:
    rows = messy_rows(100, seed=5)
    table = write_tutorial_table(tmp_path / "table.tsv", rows)
    splits = {patient: list(Split)[int(patient) % 3].value for patient in set(rows["patient_id"])}
    given = pa.table({"patient_id": list(splits), "split": list(splits.values())})
    diagnoses = replace(read_tutorial_table(engine, table), splits=engine.load(given))
    histories = build_histories(engine, diagnoses, 0)
    sequences = decoded_sequences(engine, histories, histories.vocabulary(None, Split.TRAIN))
    assert {patient: split.value for split, patients in sequences.items() for patient in patients} == splits


def test_too_many_ordering_values_are_refused() -> None:
    bits = SortKeyBits.for_ranks(codes=1_000, orderings=2**30 - 1)
    assert bits.ordering + bits.code == 40
    with raises_user_error("too-many-ordering-values", "priority"):
        SortKeyBits.for_ranks(codes=1_000, orderings=2**30)
