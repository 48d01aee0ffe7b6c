import json
from pathlib import Path

import pytest

from ehr_bert.cli import main
from tests.launching.trainings import STEPS, write_inputs

OUBIOBERT = Path(__file__).parents[2] / "pretrain" / "recipes" / "oubiobert.toml"


def planned(capsys, *arguments: object) -> dict[str, list[str]]:
    """Return the rows of the table by title."""
    assert main(["plan", *map(str, arguments)]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    return {title: values for title, *values in cells}


def test_the_plan_of_oubiobert(capsys):
    rows = planned(
        capsys, OUBIOBERT, "--vocab-size", 32_000, "--devices", 128, "--tokens-per-second", 3_000_000
    )
    assert rows["updates"] == ["7,038", "1,563", "8,601"]
    assert rows["positions"] == ["59,039,023,104", "26,222,788,608", "85,261,811,712"]
    assert rows["micro-batches per device"] == ["4", "8", ""]
    assert rows["time"] == ["5 h 28 min", "2 h 25 min", "7 h 53 min"]


def test_a_plan_of_features_counts_their_patients_and_tokens(tmp_path, capsys):
    recipe, features = write_inputs(tmp_path)
    rows = planned(capsys, recipe, "--features", features)
    assert rows["updates"] == [str(STEPS)] * 2
    assert rows["patients"] == [str(STEPS * 9)] * 2
    files = json.loads((features / "examples.json").read_text())["files"]
    train = [facts for name, facts in files.items() if name.startswith("train")]
    tokens, patients = (sum(facts[name] for facts in train) for name in ("real_tokens", "patients"))
    assert rows["real tokens"] == [f"{STEPS * 9 * tokens / patients:,.0f}"] * 2


def test_the_speed_can_be_read_from_another_training(tmp_path, capsys):
    summary = tmp_path / "summary.json"
    summary.write_text(
        json.dumps({"product_rate": {"flops_per_second": 1e15}, "model_flops_utilisation": 0.5})
    )
    one, two = (planned(capsys, OUBIOBERT, "--summary", summary, "--devices", count) for count in (1, 2))
    hours = float(one["operations (FLOPs)"][2]) / 5e14 / 3600
    assert one["time"][2] == f"1 d {int(hours) - 24} h"
    assert two["time"][2].startswith(f"{int(hours / 2)} h ")


@pytest.mark.parametrize("speed", ["0", "-3", "nan", "fast"])
def test_an_invalid_speed_is_refused(capsys, speed):
    with pytest.raises(SystemExit):
        main(["plan", str(OUBIOBERT), f"--tokens-per-second={speed}"])
    assert f"'{speed}' is not a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("fill", ["0", "1.5"])
def test_a_fill_out_of_range_is_refused(capsys, fill):
    assert main(["plan", str(OUBIOBERT), "--fill", fill]) == 1
    assert "[fill-out-of-range]" in capsys.readouterr().err
