import json
from pathlib import Path

import pytest

from ehr_bert.cli import main as command
from ehr_bert.cohorts.cohort import read_cohort
from ehr_bert.pickles import write_pickles
from tests.cohorts.reference import write_extracted
from tests.sequences.messy import messy_rows

DEFINITION = """
[index]
kind = "nth_visit"
visit = 2

[[outcomes]]
codes = ["ICD9_2*"]
"""


@pytest.fixture(autouse=True)
def few_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ehr_bert.cli.COMMANDS", {"cohort": "cohort"})


@pytest.fixture
def table(tmp_path: Path) -> str:
    return str(write_extracted(tmp_path / "store", messy_rows(60, seed=3)))


def test_a_definition_in_a_file(tmp_path: Path, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.toml").write_text(DEFINITION)
    out = tmp_path / "out"
    options = ("--roll-up", "3-character", "--tokens", "gap", "--seed", "2", "--threads", "1")
    assert command(["cohort", str(tmp_path / "own.toml"), table, str(out), *options]) == 0
    printed = capsys.readouterr().out
    assert "no outcome up to the index date" in printed
    assert "PASS one-split-per-patient: " in printed
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["roll_up"], summary["tokens"], summary["seed"]) == ("3-character", ["gap"], 2)
    assert summary["definition"]["index"]["visit"] == 2
    assert (out / "definition.toml").exists()
    assert len(read_cohort(out)) == summary["flow"][-1]["rows"]


def test_labels_instead_of_a_definition(tmp_path: Path, table: str) -> None:
    labels = tmp_path / "labels.tsv"
    labels.write_text("patient_id\tindex_date\tlabel\n" + "".join(f"{n}\t2016-09-01\t1\n" for n in range(60)))
    assert command(["cohort", "--labels", str(labels), table, str(tmp_path / "out")]) == 0
    assert (read_cohort(tmp_path / "out").labels("label") == 1).all()


def test_pickles_instead_of_a_definition_and_a_table(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write_pickles(tmp_path / f"dhf.{split}", [[[split, 1, [1], [1]]]])
    write_pickles(tmp_path / "dhf.types", [{"empty_pad": 0, "ICD9_A": 1}])
    files = ["--pickles", str(tmp_path / "dhf"), "--types", str(tmp_path / "dhf.types")]
    assert command(["cohort", *files, str(tmp_path / "out")]) == 0
    assert len(read_cohort(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("wrong-number-of-arguments", ["only", "two"]),
        ("wrong-number-of-arguments", ["--labels", "f", "a", "b", "c"]),
        ("wrong-number-of-arguments", ["--pickles", "p", "--types", "t", "a", "b"]),
        ("missing-option", ["--pickles", "p", "out"]),
        ("missing-option", ["--types", "t", "out"]),
        ("conflicting-options", ["--pickles", "p", "--types", "t", "--labels", "f", "out"]),
        ("setting-without-effect", ["--pickles", "p", "--types", "t", "--tokens", "gap", "out"]),
        ("setting-without-effect", ["--pickles", "p", "--types", "t", "--seed", "1", "out"]),
        ("unknown-definition", ["heart_attack", "table", "out"]),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    key: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(["cohort", *arguments]) == 1
    assert f"[{key}]" in capsys.readouterr().err
