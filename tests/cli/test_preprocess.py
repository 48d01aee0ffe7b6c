import argparse
import json
from pathlib import Path

import pytest

from ehr_bert.cli import preprocess
from ehr_bert.codes import RollUp
from ehr_bert.vocabulary import Vocabulary
from tests.sequences.messy import messy_rows, write_tutorial_table


def preprocessed(folder: Path, *options: str) -> dict:
    """Run the command and return its summary."""
    parser = argparse.ArgumentParser()
    preprocess.add_arguments(parser)
    table = write_tutorial_table(folder / "table.tsv", messy_rows(150, seed=51))
    preprocess.run(parser.parse_args([str(table), str(folder / "out"), *options]))
    return json.loads((folder / "out" / "summary.json").read_text())


def test_no_rule_is_on_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = preprocessed(tmp_path)
    assert summary["flow"] == []
    assert summary["rare_codes"] is None
    assert summary["roll_up"] == {"to": "none", "unmapped_codes": 0, "unmapped_rows": 0}
    assert sum(summary["patients"].values()) == 150
    assert summary["rows"]["outside_dates"] == summary["rows"]["of_ineligible_patients"] == 0
    printed = capsys.readouterr().out
    assert "codes in ICD9" in printed
    assert "Cohort flow" not in printed


def test_all_options_reach_the_sequences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = preprocessed(
        tmp_path,
        *("--roll-up", "ccs", "--from-date", "2014-03-01", "--until", "2016-01-01"),
        *("--min-codes", "3", "--min-visits", "2", "--min-patients", "5", "--tokens", "gap"),
    )
    assert [step["rule"] for step in summary["flow"]] == [
        "usable rows",
        "discharged from 2014-03-01",
        "discharged until 2016-01-01",
        "at least 3 codes",
        "at least 2 visits",
    ]
    assert summary["roll_up"]["to"] == "ccs"
    assert summary["rare_codes"] is not None
    assert "GAP_31-90" in Vocabulary.read(tmp_path / "out" / "vocabulary.tsv").tokens
    assert "Cohort flow" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--until", "2014-02-30", "YYYY-MM-DD"),
        ("--tokens", "sex,weight", "sex, age, gap"),
        ("--roll-up", "icd11", "invalid choice"),
    ],
)
def test_a_bad_value_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, message: str
) -> None:
    with pytest.raises(SystemExit):
        preprocessed(tmp_path, option, value)
    assert message in capsys.readouterr().err


def test_every_roll_up_can_be_chosen() -> None:
    parser = argparse.ArgumentParser()
    preprocess.add_arguments(parser)
    (action,) = [action for action in parser._actions if action.dest == "roll_up"]
    assert list(action.choices or ()) == [to.value for to in RollUp]
