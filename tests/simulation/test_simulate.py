# Covers: ehr_bert.cli.simulate
import argparse
import json
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from ehr_bert.cli import main
from ehr_bert.cli import simulate as command
from ehr_bert.codes.titles import read_titles
from ehr_bert.simulation import chunks
from ehr_bert.simulation.auroc import rank_auroc
from ehr_bert.simulation.chunks import PopulationSettings
from ehr_bert.simulation.conditions import Conditions
from ehr_bert.simulation.formats.registry import RECORD_FORMATS
from ehr_bert.simulation.mechanism import Preset
from ehr_bert.simulation.simulate import simulate
from ehr_bert.simulation.truth import TRUTH
from tests.user_errors import raises_user_error

LANDMARK = date(2016, 2, 29)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "PATIENTS_PER_CHUNK", 17)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def few(patients: int, **changes: object) -> PopulationSettings:
    return PopulationSettings(patients, **{"landmarks": (), "horizons": (365,), **changes})


@pytest.mark.usefixtures("small_chunks")
def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        simulate(tmp_path / name, few(40, seed=seed), "parquet", workers=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert set(contents(tmp_path / "one")) == {
        *(f"events/{number:05d}.parquet" for number in range(3)),
        *("patients.parquet", "truth.parquet", "codes.tsv", "summary.json"),
    }
    other = contents(tmp_path / "other")
    assert all(
        other[name] != data for name, data in contents(tmp_path / "one").items() if "truth" not in name
    )


@pytest.mark.usefixtures("small_chunks")
def test_fewer_patients_are_the_first_of_more(tmp_path: Path) -> None:
    for patients in (23, 61):
        simulate(tmp_path / str(patients), few(patients), workers=1)
    some, all_of_them = ((tmp_path / patients / "data_file.tsv").read_bytes() for patients in ("23", "61"))
    assert len(some) < len(all_of_them)
    assert all_of_them.startswith(some)


@pytest.mark.slow
@pytest.mark.parametrize("record_format", ["tsv", "parquet", "omop", "meds"])
def test_the_files_do_not_depend_on_the_number_of_processes(tmp_path: Path, record_format: str) -> None:
    settings = few(20_011, visits=3)
    for workers in (1, 2):
        simulate(tmp_path / str(workers), settings, record_format, workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@pytest.fixture(scope="module")
def with_truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "PATIENTS_PER_CHUNK", 25)
        simulate(folder, few(60, landmarks=(LANDMARK,), seed=2), workers=1)
    return folder


def test_the_summary_counts_the_content_of_the_files(with_truth: Path, conditions: Conditions) -> None:
    summary = json.loads((with_truth / "summary.json").read_text())
    rows = pd.read_csv(with_truth / "data_file.tsv", sep="\t", parse_dates=["vadate", "vddate"])
    patients = pq.read_table(with_truth / "patients.parquet").to_pandas()
    codes = pd.read_csv(with_truth / "codes.tsv", sep="\t")
    assert summary["stage"] == "simulate"
    assert summary["settings"]["format"] == "tsv"
    assert summary["settings"]["landmarks"] == ["2016-02-29"]
    assert (summary["patients"], summary["events"]) == (len(patients), len(rows)) == (60, len(rows))
    assert summary["deaths"] == patients["death_date"].notna().sum() > 0
    assert summary["leavers"] == (patients["observation_end_reason"] == "enrolment").sum() > 0
    assert summary["visits"] >= len(rows.drop_duplicates(["patient_id", "vddate"]))
    assert summary["codes"] == len(codes) == rows["diag"].nunique()
    assert set(codes["code"]) == set(rows["diag"])
    family = dict(zip(codes["code"], codes["family"], strict=True))
    cases = rows.assign(family=rows["diag"].map(family)).groupby("family")["patient_id"].nunique()
    assert summary["cases"] == {name: cases.get(name, 0) for name in summary["cases"]}
    assert summary["cases"]["hypertension"] > 0
    assert set(codes["family"]) <= set(conditions.numbers)


def test_the_share_of_prolonged_stays_counts_visits(tmp_path: Path, small_chunks: None) -> None:
    summary = simulate(tmp_path / "out", few(60), "omop", workers=1)
    visits = pq.read_table(tmp_path / "out" / "visit_occurrence").to_pandas()
    stays = pd.to_datetime(visits["visit_end_date"]) - pd.to_datetime(visits["visit_start_date"])
    assert summary["visits"] == len(visits)
    assert summary["prolonged_stays"] == round((stays.dt.days > 7).mean(), 4)


def test_risks_of_the_summary_are_those_of_the_truth(with_truth: Path) -> None:
    summary = json.loads((with_truth / "summary.json").read_text())
    truth = pq.read_table(with_truth / "truth.parquet")
    assert truth.schema.equals(TRUTH)
    rows = truth.to_pandas()
    assert len(summary["risks"]) == 10
    for row in summary["risks"]:
        is_row = (rows["outcome"] == row["outcome"]) & (rows["horizon_days"] == row["horizon_days"])
        risk = rows.loc[is_row, "risk"].to_numpy()
        assert row["landmark"] == "2016-02-29"
        assert row["patients"] == len(risk) > 0
        assert row["mean_risk"] == pytest.approx(risk.mean(), abs=1e-5)
        assert row["best_auroc"] == pytest.approx(rank_auroc(risk, risk), abs=2e-3)


def test_titles_of_codes_can_be_read(with_truth: Path) -> None:
    titles = read_titles(with_truth / "codes.tsv")
    titles.pop("code")
    assert len(titles) == json.loads((with_truth / "summary.json").read_text())["codes"]
    assert all(titles.values())


@pytest.mark.parametrize(
    ("record_format", "workers", "patients"), [("xlsx", 1, 5), ("tsv", 0, 5), ("fhir", 1, 20_001)]
)
def test_wrong_settings_are_refused(tmp_path: Path, record_format: str, workers: int, patients: int) -> None:
    with raises_user_error("invalid-setting"):
        simulate(tmp_path / "out", few(patients), record_format, workers)
    assert not (tmp_path / "out").exists()


def run(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args(list(map(str, arguments))))


@pytest.mark.usefixtures("small_chunks")
def test_the_command_prints_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(
        *(tmp_path / "out", "--workers", 1, "--patients", 20, "--visits", 9, "--preset", "constant-hazard"),
        *("--landmarks", "2015-01-01", "--horizons", "90,365", "--informative-censoring", 0.5),
    )
    printed = capsys.readouterr().out
    assert printed.startswith("20 patients, ")
    assert "heart_failure" in printed
    assert str(tmp_path / "out") in printed
    settings = json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]
    expected = PopulationSettings(20, 9.0, 0, Preset.CONSTANT_HAZARD, 0.5, (date(2015, 1, 1),), (90, 365))
    assert settings == expected.to_dict() | {"format": "tsv"}


@pytest.mark.usefixtures("small_chunks")
def test_no_landmarks_give_no_risks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "out", "--patients", 5, "--landmarks", "", "--format", "meds")
    assert "best AUROC" not in capsys.readouterr().out
    assert pq.read_table(tmp_path / "out" / "truth.parquet").num_rows == 0


def test_the_choices_are_those_of_the_simulation() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    choices = {action.dest: action.choices for action in parser._actions}
    assert choices["format"] == tuple(RECORD_FORMATS)
    assert choices["preset"] == tuple(Preset)


@pytest.mark.parametrize(
    "option",
    [("--preset", "default"), ("--landmarks", ""), ("--horizons", "5"), ("--workers", "1")],
    ids=lambda option: option[0],
)
def test_options_without_effect_on_version_1_are_refused(tmp_path: Path, option: tuple[str, str]) -> None:
    with raises_user_error("setting-without-effect", option[0]):
        run(tmp_path / "out", "--version", 1, *option)


@pytest.mark.parametrize("option", [("--landmarks", "2015"), ("--horizons", "a"), ("--horizons", "")])
def test_unreadable_lists_are_refused(
    tmp_path: Path, option: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", str(tmp_path / "out"), *option])
    assert option[0] in capsys.readouterr().err
