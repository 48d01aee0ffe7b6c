"""The number of cases and controls of heart failure in two public corpora."""

from pathlib import Path

import pytest

from ehr_bert.cli import main as command
from ehr_bert.cohorts.definition import Definition
from ehr_bert.cohorts.folder import write_cohort_folder
from tests.test_extract_program import COUNTED, DATA, DATED, real_data


@real_data
@pytest.mark.parametrize(
    ("name", "mapping", "cases", "controls"),
    [("diabetes-130", COUNTED, 1851, 8973), ("synpuf-inpatient", DATED, 1503, 2527)],
)
def test_heart_failure_at_a_later_visit(
    engine, tmp_path: Path, monkeypatch, name: str, mapping: str, cases: int, controls: int
) -> None:
    monkeypatch.setattr("ehr_bert.cli.COMMANDS", {"extract": "extract"})
    (tmp_path / "mapping.toml").write_text(mapping)
    source, folder = DATA / name / "diagnoses.tsv.gz", tmp_path / "extracted"
    arguments = ["--from", "table", "--columns", tmp_path / "mapping.toml", source, folder]
    assert command(["extract", *map(str, arguments)]) == 0
    definition = Definition.read("heart_failure_at_a_later_visit")
    splits = write_cohort_folder(engine, folder, tmp_path / "out", definition)["splits"].values()
    positives = sum(split["positives"]["label"] for split in splits)
    assert (positives, sum(split["examples"] for split in splits) - positives) == (cases, controls)
