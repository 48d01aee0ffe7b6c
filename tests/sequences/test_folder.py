# Covers: ehr_bert.sequences.parquet, ehr_bert.sequences.summary
import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.engines import DuckDBEngine
from ehr_bert.engines import duckdb as duckdb_engine
from ehr_bert.schemas import (
    DIAGNOSES,
    OBSERVATION,
    REJECTED,
    SEQUENCES,
    ContextKind,
    ObservationEndReason,
    SpecialToken,
    Split,
)
from ehr_bert.sequences import folder as folder_module
from ehr_bert.sequences.building import SequenceOptions
from ehr_bert.sequences.folder import write_sequences_folder
from ehr_bert.sequences.summary import summary_text
from ehr_bert.vocabulary import Vocabulary
from tests.cohorts.reference import write_extracted
from tests.sequences.messy import HEADER, messy_rows, tutorial_lines, write_tutorial_table
from tests.user_errors import raises_user_error


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_tutorial_table(tmp_path / "table.tsv", messy_rows(200, seed=7))


def test_the_folder_contains_all_patients_sorted_by_id(
    engine: DuckDBEngine, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "SHARD_PATIENTS", 13)
    summary = write_sequences_folder(engine, table, tmp_path / "out")
    for split in Split:
        shards = sorted((tmp_path / "out" / "sequences" / split).iterdir())
        tables = [pq.read_table(shard) for shard in shards]
        assert all(shard.schema.equals(SEQUENCES) for shard in tables)
        assert all(shard.num_rows == 13 for shard in tables[:-1])
        ids = pa.concat_tables(tables)["patient_id"].to_pylist()
        assert ids == sorted(ids)
        assert len(ids) == summary["patients"][split.value]
    assert sum(summary["patients"].values()) == 200


def observed(count: int) -> dict[str, dict]:
    """The columns of `OBSERVATION` of patients, each known or null."""
    generator = np.random.default_rng(11)

    def day() -> date | None:
        return (
            date(2010, 1, 1) + timedelta(int(generator.integers(4000))) if generator.random() < 0.6 else None
        )

    people = {
        str(patient): {"observation_start": day(), "observation_end": day(), "death_date": day()}
        for patient in range(count)
    }
    for number, facts in enumerate(people.values()):
        reason = list(ObservationEndReason)[number % len(ObservationEndReason)].value
        facts["observation_end_reason"] = reason if facts["observation_end"] else None
    return people


def test_observation_and_death_are_those_of_the_patient_table(engine: DuckDBEngine, tmp_path: Path) -> None:
    rows = messy_rows(101, seed=10)
    people = observed(90)
    patients = [{"patient_id": patient, **facts} for patient, facts in people.items()]
    extracted = write_extracted(tmp_path / "extracted", rows, patients)
    options = SequenceOptions(context=frozenset({ContextKind.SEX}))
    for name, source in {"with": extracted, "without": extracted / "diagnoses"}.items():
        write_sequences_folder(engine, source, tmp_path / name)
    write_sequences_folder(engine, extracted, tmp_path / "tokens", options=options)
    with_facts, without, with_tokens = (
        pa.concat_tables([pq.read_table(tmp_path / name / "sequences" / split) for split in Split])
        for name in ("with", "without", "tokens")
    )
    unknown = dict.fromkeys(OBSERVATION.names)
    expected = [people.get(patient, unknown) for patient in with_facts["patient_id"].to_pylist()]
    assert with_facts.select(OBSERVATION.names).to_pylist() == expected
    assert with_tokens.select(OBSERVATION.names).to_pylist() == expected
    assert unknown in expected
    ends = zip(expected, with_facts["admit_date"].to_pylist(), strict=True)
    assert any(facts["death_date"] and facts["death_date"] > days[-1] + timedelta(60) for facts, days in ends)
    assert without.select(OBSERVATION.names).to_pylist() == [unknown] * 101
    assert with_facts.drop_columns(OBSERVATION.names).equals(without.drop_columns(OBSERVATION.names))


def test_every_row_is_counted_once(engine: DuckDBEngine, tmp_path: Path) -> None:
    lines = tutorial_lines(messy_rows(50, seed=8))
    table = tmp_path / "table.tsv"
    table.write_text(HEADER + "".join(lines) + "1\t2014-02-30\t2014-03-01\tA\t\t\t\n\nY\n")
    summary = write_sequences_folder(engine, table, tmp_path / "out", sample_size=20)
    rows = summary["rows"]
    assert rows["read"] == len(lines) + 3
    assert rows["rejected"] == {"admission is not a date": 1, "blank line": 1, "not seven fields": 1}
    kept = rows["sequence_codes"] + rows["merged_duplicates"] + rows["outside_sample"]
    assert kept + 3 == rows["read"]
    assert min(rows["merged_duplicates"], rows["outside_sample"]) > 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == {"stage": "preprocess", **summary}
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet")
    assert rejected.schema.equals(REJECTED)
    assert rejected["line"].to_pylist() == [len(lines) + 2, len(lines) + 3, len(lines) + 4]
    assert "blank line" in summary_text(summary)


def test_codes_outside_of_the_training_split_are_unknown(engine: DuckDBEngine, tmp_path: Path) -> None:
    table = tmp_path / "table.tsv"
    table.write_text(
        HEADER + "".join(f"{patient}\t2014-01-01\t2014-01-02\tC{patient}\t\t\t\n" for patient in range(40))
    )
    summary = write_sequences_folder(engine, table, tmp_path / "out")
    vocabulary = Vocabulary.read(tmp_path / "out" / "vocabulary.tsv")
    assert len(vocabulary) == len(SpecialToken) + summary["patients"]["train"]
    assert summary["unknown_codes"] == {**summary["patients"], "train": 0}
    for split in (Split.VALID, Split.TEST):
        rows = pq.read_table(tmp_path / "out" / "sequences" / split)
        assert set(rows["token_ids"].combine_chunks().flatten().to_pylist()) == {
            vocabulary.id_of(SpecialToken.UNK)
        }


def test_a_given_vocabulary_keeps_its_ids(engine: DuckDBEngine, table: Path, tmp_path: Path) -> None:
    given = Vocabulary.from_types({"empty_pad": 0, "ICD9_29": 1, "elsewhere": 2, "ICD9_3": 5})
    write_sequences_folder(engine, table, tmp_path / "out", given=given)
    vocabulary = Vocabulary.read(tmp_path / "out" / "vocabulary.tsv")
    assert vocabulary.tokens[: len(given)] == given.tokens
    assert len(vocabulary) == len(given) + 28
    assert vocabulary.patients[1] > 0
    assert vocabulary.patients[2] == 0


def test_the_bytes_do_not_depend_on_memory_and_threads(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, threads, aggregated_bytes in (("a", 2, 1), ("b", 1, 2_000_000)):
        monkeypatch.setattr(duckdb_engine, "_AGGREGATED_BYTES", aggregated_bytes)
        with DuckDBEngine(tmp_path, "1GB", threads) as engine:
            write_sequences_folder(engine, table, tmp_path / name)
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert first == second
    assert len(first) == 6


def test_an_interrupted_run_keeps_the_earlier_output(
    engine: DuckDBEngine, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sequences_folder(engine, table, tmp_path / "out")
    before = contents(tmp_path / "out")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_module, "summarise_preprocessing", killed)
    for name in ("out", "new"):
        with pytest.raises(KeyboardInterrupt):
            write_sequences_folder(engine, table, tmp_path / name, seed=1)
    assert contents(tmp_path / "out") == before
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_parquet_and_tsv_give_the_same_sequences(engine: DuckDBEngine, tmp_path: Path) -> None:
    rows = messy_rows(60, seed=9)
    table = write_tutorial_table(tmp_path / "table.tsv", rows)
    (tmp_path / "parquet").mkdir()
    stored = pa.Table.from_pandas(rows, schema=DIAGNOSES, preserve_index=False)
    pq.write_table(stored.slice(0, 100), tmp_path / "parquet" / "a.parquet")
    pq.write_table(stored.slice(100), tmp_path / "parquet" / "b.parquet")
    write_sequences_folder(engine, table, tmp_path / "a")
    write_sequences_folder(engine, tmp_path / "parquet", tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_other_kinds_of_events_are_counted_and_not_used(engine: DuckDBEngine, tmp_path: Path) -> None:
    stored = pa.Table.from_pandas(messy_rows(30, seed=9), schema=DIAGNOSES, preserve_index=False)
    other = stored.slice(0, 40).append_column("kind", pa.array(["lab", "procedure"] * 20))
    labs = other.append_column("time", pa.array(["noon"] * 40))
    events = pa.concat_tables([stored, labs], promote_options="default")
    pq.write_table(stored, tmp_path / "diagnoses.parquet")
    pq.write_table(events, tmp_path / "events.parquet")
    before = write_sequences_folder(engine, tmp_path / "diagnoses.parquet", tmp_path / "a")
    after = write_sequences_folder(engine, tmp_path / "events.parquet", tmp_path / "b")
    kinds = {"read": before["rows"]["read"] + 40, "of_other_kinds": 40}
    assert after == before | {"rows": before["rows"] | kinds}
    for path in (tmp_path / "a").rglob("*.*"):
        if path.name != "summary.json":
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    assert "of other kinds" in summary_text(after)
    assert "of other kinds" not in summary_text(before)
    pq.write_table(labs, tmp_path / "labs.parquet")
    with raises_user_error("no-usable-rows", "40 rows of other kinds"):
        write_sequences_folder(engine, tmp_path / "labs.parquet", tmp_path / "c")


@pytest.mark.parametrize(
    ("rows", "mentioned"),
    [
        ("", "table.tsv"),
        ("1\tx\t2014-01-01\tA\t\t\t\n", "line 2"),
    ],
)
def test_a_table_without_usable_rows_is_refused(
    engine: DuckDBEngine, tmp_path: Path, rows: str, mentioned: str
) -> None:
    table = tmp_path / "table.tsv"
    table.write_text(HEADER + rows)
    with raises_user_error("no-usable-rows", mentioned):
        write_sequences_folder(engine, table, tmp_path / "out")
    assert not (tmp_path / "out").exists()
