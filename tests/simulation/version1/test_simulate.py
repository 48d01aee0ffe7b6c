import argparse
import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from ehr_bert.cli import simulate as command
from ehr_bert.schemas import DIAGNOSES
from ehr_bert.simulation.version1 import simulate as simulation
from ehr_bert.simulation.version1.simulate import (
    SIMULATED_COHORT,
    TUTORIAL_COLUMNS,
    Version1Settings,
    simulate_version1,
)
from tests.user_errors import raises_user_error

EXAMPLE = Path(__file__).parents[3] / "example_data"


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "_CHUNK_PATIENTS", 17)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_example_data_follow_from_their_settings(tmp_path: Path) -> None:
    settings = json.loads((EXAMPLE / "summary.json").read_text())["settings"]
    simulate_version1(tmp_path / "again", Version1Settings(**settings))
    shipped = contents(EXAMPLE)
    readme = shipped.pop("README.md").decode()
    del shipped["finetune.toml"]  # settings of the demo, not data
    assert contents(tmp_path / "again") == shipped
    assert f"--patients {settings['patients']} --visits {settings['visits']:g}" in readme
    assert f"--seed {settings['seed']} --format {settings['format']}" in readme


@pytest.mark.usefixtures("small_chunks")
def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        simulate_version1(tmp_path / name, Version1Settings(40, 5.0, seed, "parquet"))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    other = contents(tmp_path / "other")
    assert all(other[name] != data for name, data in contents(tmp_path / "one").items())


@pytest.mark.usefixtures("small_chunks")
def test_fewer_patients_are_the_first_of_more(tmp_path: Path) -> None:
    for patients in (23, 61):
        simulate_version1(tmp_path / str(patients), Version1Settings(patients, 5.0, 1))
    for name in ("data_file.tsv", "cohort.tsv"):
        few, more = ((tmp_path / patients / name).read_bytes() for patients in ("23", "61"))
        assert len(few) < len(more)
        assert more.startswith(few)


@pytest.mark.usefixtures("small_chunks")
def test_parquet_and_tsv_have_the_same_content(tmp_path: Path) -> None:
    tsv, parquet = tmp_path / "tsv", tmp_path / "parquet"
    simulate_version1(tsv, Version1Settings(50, 5.0, 2, "tsv"))
    simulate_version1(parquet, Version1Settings(50, 5.0, 2, "parquet"))
    text = csv.ParseOptions(delimiter="\t", quote_char=False)

    for table, path, schema in (
        (pq.read_table(parquet / "diagnoses"), tsv / "data_file.tsv", DIAGNOSES),
        (pq.read_table(parquet / "cohort.parquet"), tsv / "cohort.tsv", SIMULATED_COHORT),
    ):
        assert table.schema == schema
        read = csv.read_csv(path, parse_options=text)
        expected = TUTORIAL_COLUMNS if schema is DIAGNOSES else SIMULATED_COHORT.names
        assert read.column_names == expected
        assert read.rename_columns(schema.names).cast(schema).equals(table)
    assert len(list((parquet / "diagnoses").iterdir())) == 3


@pytest.mark.usefixtures("small_chunks")
def test_the_summary_counts_the_content_of_the_files(tmp_path: Path) -> None:
    summary = simulate_version1(tmp_path / "out", Version1Settings(100, 15.0, 9))
    rows = pd.read_csv(tmp_path / "out" / "data_file.tsv", sep="\t", parse_dates=["vadate", "vddate"])
    visits = rows.drop_duplicates(["patient_id", "vddate"])
    cohort = pd.read_csv(tmp_path / "out" / "cohort.tsv", sep="\t")
    titles = pd.read_csv(tmp_path / "out" / "codes.tsv", sep="\t")
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == {"stage": "simulate", **summary}
    assert list(rows["patient_id"].unique()) == list(range(1, 101))
    assert (summary["rows"], summary["visits"]) == (len(rows), len(visits))
    assert summary["prolonged_stays"] == round(((visits["vddate"] - visits["vadate"]).dt.days > 7).mean(), 4)
    assert set(titles["code"]) == set(rows["diag"])
    assert summary["codes"] == len(titles)
    assert (summary["cohort"]["patients"], summary["cohort"]["cases"]) == (len(cohort), cohort["label"].sum())


def test_the_best_auroc_is_in_the_intended_range(tmp_path: Path) -> None:
    cohort = simulate_version1(tmp_path / "out", Version1Settings(5000))["cohort"]
    assert 0.10 < cohort["prevalence"] < 0.25
    assert 0.80 < cohort["expected_best_auroc"] < 0.88
    assert abs(cohort["best_auroc"] - cohort["expected_best_auroc"]) < 0.03


@pytest.mark.usefixtures("small_chunks")
def test_one_visit_per_patient_gives_an_empty_cohort(tmp_path: Path) -> None:
    summary = simulate_version1(tmp_path / "out", Version1Settings(1, 1.0))
    assert summary["visits"] == 1
    assert summary["cohort"]["patients"] == 0
    assert summary["cohort"]["best_auroc"] is None
    assert (tmp_path / "out" / "cohort.tsv").read_text() == "\t".join(SIMULATED_COHORT.names) + "\n"


@pytest.mark.parametrize(
    "wrong",
    [{"patients": 0}, {"visits": 0.5}, {"seed": -1}, {"format": "xlsx"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_setting_out_of_range_is_refused(wrong: dict) -> None:
    with raises_user_error("invalid-setting", next(iter(wrong))):
        Version1Settings(**wrong)


def test_the_command_prints_a_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], small_chunks: None
) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(
        parser.parse_args([str(tmp_path / "out"), "--patients", "30", "--visits", "9", "--version", "1"])
    )
    printed = capsys.readouterr().out
    assert printed.startswith("30 patients, ")
    assert "best possible AUROC" in printed
    assert str(tmp_path / "out") in printed
