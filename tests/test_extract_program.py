# Covers: ehr_bert.cli.extract, ehr_bert.cli.time_arguments
import csv
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.cli import main as command
from tests.sources.stores import write_tables
from tests.sources.test_meds import write_meds
from tests.sources.test_omop import TABLES
from tests.user_errors import warning_keys

DATA = Path(os.environ.get("EHR_BERT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared data")

DATED = """
[columns]
patient_id = "patient_id"
admit_date = "admit"
discharge_date = "discharge"
code = "code"
system = "code_system"
priority = "priority"
"""
COUNTED = """
[columns]
patient_id = "patient_id"
visit_index = "visit_index"
los_days = "los_days"
code = "code"
system = "code_system"
priority = "priority"
sex = "gender"
[systems]
ICD9CM_3digit = "ICD9CM"
[calendar]
start_date = 2000-01-01
"""


def extracted(out: Path, *arguments: object) -> dict[str, Any]:
    assert command(["extract", *map(str, arguments), str(out)]) == 0
    return json.loads((out / "summary.json").read_text())


def rows_of(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out / "events").to_pylist()


def test_a_store_is_extracted_and_preprocessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = write_tables(tmp_path / "omop", TABLES)
    summary = extracted(tmp_path / "out", "--from", "omop", "--without-visit", "keep", store)
    assert summary["rows"] == {
        "read": 6,
        "kept": 5,
        "merged_duplicates": 0,
        "rejected": {"unknown vocabulary: local": 1},
    }
    assert "unknown vocabulary: local" in capsys.readouterr().out
    assert command(["preprocess", str(tmp_path / "out"), str(tmp_path / "sequences")]) == 0
    assert (tmp_path / "sequences" / "vocabulary.tsv").exists()


def test_the_source_s_splits_are_kept(tmp_path: Path) -> None:
    store = write_meds(tmp_path / "meds", True, {1: "held_out", 2: "train"})
    extracted(tmp_path / "out", "--from", "meds", "--source-url", store)
    assert command(["preprocess", str(tmp_path / "out"), str(tmp_path / "sequences")]) == 0
    patients = {
        split: pq.read_table(tmp_path / "sequences" / "sequences" / split)["patient_id"].to_pylist()
        for split in ("train", "test")
    }
    assert patients == {"train": ["2"], "test": ["1"]}


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["--from", "meds", "--codes", "standard", "x"], "option-of-another-store"),
        (["--from", "table", "x"], "missing-option"),
        (["--from", "omop"], "missing-option"),
        (["--from", "omop", "--source-url", "x", "x"], "conflicting-options"),
        (["--from", "omop", "/nowhere"], "missing-file"),
    ],
)
def test_a_user_error_is_one_line_and_exit_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], key: str
) -> None:
    assert command(["extract", *arguments, str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"[{key}]")
    assert list(tmp_path.iterdir()) == []


@real_data
def test_both_formats_of_mimic_have_the_same_codes_in_the_same_admissions(tmp_path: Path) -> None:
    folder = DATA / "mimic-iv-demo"
    plain = extracted(tmp_path / "plain", "--from", "mimic-iv", folder)
    assert plain["rows"] == {"read": 4506, "kept": 4506, "merged_duplicates": 0, "rejected": {}}
    omop = extracted(
        tmp_path / "omop", "--from", "omop", "--condition-types", 32821, DATA / "mimic-iv-demo-omop"
    )
    assert omop["rows"]["kept"] + omop["rows"]["merged_duplicates"] == 3833
    assert omop["rows"]["rejected"] == {"condition type excluded": 16441 - 3833}
    with (DATA / "mimic-iv-demo-omop" / "person.csv").open() as file:
        subjects = {row["person_id"]: row["person_source_value"] for row in csv.DictReader(file)}
    # Compare by discharge, since visits in OMOP begin with the registration in the emergency department.
    of_omop = {
        (subjects[row["patient_id"]], row["discharge_date"], row["code"])
        for row in rows_of(tmp_path / "omop")
    }
    of_plain = {
        (row["patient_id"], row["discharge_date"], row["code"]) for row in rows_of(tmp_path / "plain")
    }
    assert len(of_omop) == omop["rows"]["kept"]
    assert of_omop <= of_plain


@real_data
def test_charted_items_of_mimic_are_of_an_unknown_vocabulary(tmp_path: Path) -> None:
    summary = extracted(tmp_path / "out", "--from", "omop", DATA / "mimic-iv-demo-omop")
    assert sum(summary["rows"]["rejected"].values()) == 16441 - 3833
    assert all(reason.startswith("unknown vocabulary: mimiciv_") for reason in summary["rows"]["rejected"])


@real_data
@pytest.mark.parametrize(
    ("policy", "kept", "rejected"),
    [("reject", 469, {"no visit: visit_occurrence.visit_occurrence_id": 1}), ("keep", 470, {})],
)
def test_synthea_in_omop(tmp_path: Path, policy: str, kept: int, rejected: dict[str, int]) -> None:
    summary = extracted(
        tmp_path / "out", "--from", "omop", "--without-visit", policy, DATA / "synthea27nj-omop54"
    )
    assert summary["rows"] == {"read": 470, "kept": kept, "merged_duplicates": 0, "rejected": rejected}
    assert summary["rows_by_system"] == {"SNOMED": kept}


@real_data
@pytest.mark.parametrize(
    ("name", "mapping", "rows", "patients"),
    [("synpuf-inpatient", DATED, 184859, 12959), ("diabetes-130", COUNTED, 242074, 56990)],
)
def test_any_table_by_its_mapping(tmp_path: Path, name: str, mapping: str, rows: int, patients: int) -> None:
    (tmp_path / "mapping.toml").write_text(mapping)
    source = DATA / name / "diagnoses.tsv.gz"
    summary = extracted(tmp_path / "out", "--from", "table", "--columns", tmp_path / "mapping.toml", source)
    assert summary["rows"]["kept"] == summary["rows"]["read"] == rows
    assert summary["patients"]["with_diagnoses"] == patients
    assert set(summary["rows_by_system"]) == {"ICD9"}


def test_a_time_zone_moves_admissions_discharges_and_times(tmp_path: Path) -> None:
    tables = {
        "encounters": "Id,START,STOP,PATIENT\ne,2012-02-03T23:30:00Z,2012-02-05T08:00:00+09:00,p",
        "patients": "Id,BIRTHDATE,DEATHDATE,GENDER\np,1980-05-05,,F",
        "conditions": "START,PATIENT,ENCOUNTER,CODE\n2012-02-03T20:15:00-0500,p,e,44054006",
    }
    store = write_tables(tmp_path / "synthea", tables)
    expected = {
        "America/New_York": ("2012-02-03", "2012-02-04", "2012-02-03", "2012-02-03 20:15:00"),
        "Asia/Tokyo": ("2012-02-04", "2012-02-05", "2012-02-04", "2012-02-04 10:15:00"),
        None: ("2012-02-03", "2012-02-05", "2012-02-03", "2012-02-03 20:15:00"),
    }
    for zone, values in expected.items():
        option = ["--time-zone", zone] if zone else []
        extracted(tmp_path / "out", "--from", "synthea", *option, store)
        (row,) = rows_of(tmp_path / "out")
        assert tuple(str(row[key]) for key in ("admit_date", "discharge_date", "date", "time")) == values


def test_preprocess_converts_a_parquet_table_to_a_time_zone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    days = pa.array([datetime(2012, 2, 3, 23, 30)], pa.timestamp("us", "UTC"))
    table = {"patient_id": ["p"], "admit_date": days, "discharge_date": days, "code": ["A"]}
    pq.write_table(pa.table(table), tmp_path / "table.parquet")
    for option, day in (([], "2012-02-03"), (["--time-zone", "Asia/Tokyo"], "2012-02-04")):
        arguments = ["preprocess", str(tmp_path / "table.parquet"), str(tmp_path / "out"), *option]
        assert command(arguments) == 0
        assert json.loads((tmp_path / "out" / "summary.json").read_text())["first_admission"] == day
    (tmp_path / "table.tsv").write_text("a\tb\tc\td\te\tf\tg\n1\t2012-02-03\t2012-02-03\tA\t\t\t\n")
    assert command(["preprocess", str(tmp_path / "table.tsv"), str(tmp_path / "o"), *option]) != 0


def test_the_extraction_date_is_the_end_of_observation_unless_it_ends_earlier(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = write_tables(tmp_path / "omop", TABLES)
    summary = extracted(tmp_path / "out", "--from", "omop", "--extraction-date", "2020-04-01", store)
    patients = {
        row["patient_id"]: row for row in pq.read_table(tmp_path / "out/patients.parquet").to_pylist()
    }
    ends = {
        key: (str(row["observation_end"]), row["observation_end_reason"]) for key, row in patients.items()
    }
    extraction = ("2020-04-01", "extraction")
    assert ends == {"1": ("2020-01-01", "observation_period"), "2": extraction, "3": extraction}
    assert summary["extraction_date"] == "2020-04-01"
    assert summary["visits_after_extraction_date"] == 1
    assert warning_keys(caplog) == ["discharge-after-extraction-date"]
