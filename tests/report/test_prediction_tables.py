import re

from ehr_bert.report.prediction_tables import results_text
from tests.report.prediction_results import MODELS, results


def section(text, heading):
    return text.split(f"## {heading}\n")[1].split("\n## ")[0]


def rows(part):
    """Cells by the first cell of their row."""
    lines = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def title(model):
    return model.replace("_", " ")


def test_each_model_has_a_value_and_interval_at_each_size():
    table = rows(section(results_text(results()), "AUROC by training size"))
    assert table["training patients"] == ["250", "1,000"]
    assert table["logistic regression"] == ["0.605 (0.585 to 0.625)", "0.620 (0.600 to 0.640)"]
    assert table["best attainable"] == ["0.810", "0.810"]


def test_the_best_value_by_the_direction_of_the_metric_is_bold():
    content = results()
    for row, slope in zip(content["table"][1::2], (0.7, 1.1, 0.9), strict=True):
        row["calibration_slope"] |= {"value": slope}
    bold = {}
    for part in section(results_text(content), "1,000 training patients").split("### Calibration"):
        table = rows(part)
        bold |= {
            column: [model for model in map(title, MODELS) if table[model][place].startswith("**")]
            for place, column in enumerate(table["model"])
        }
    assert bold["AUROC"] == ["frozen cls"]
    assert bold["Brier score"] == ["logistic regression"]
    assert bold["calibration slope"] in (["pretrained gru"], ["frozen cls"])
    assert bold["seeds"] == []


def test_models_are_compared_with_the_baseline():
    text = results_text(results())
    part = section(text, "250 training patients").split("### Calibration")[0]
    table = rows(part)
    assert table["pretrained gru"][-2:] == ["+0.030 (+0.010 to +0.090)", "< 0.001"]
    assert table["logistic regression"][-2:] == ["", ""]
    assert "The baseline is logistic regression." in part
    table = rows(section(text, "AUROC difference from the best baseline"))
    assert table["frozen cls"] == ["+0.060 (p < 0.001)"] * 2
    assert table["best baseline"] == ["logistic regression"] * 2


def test_the_text_states_the_test_patients_and_the_replicates():
    text = results_text(results())
    assert text.startswith("# Prediction of label\n\nTested on 1,299 patients (99 cases).\n")
    assert "1,000 bootstrap replicates" in text
    assert rows(text.split("\n## ")[0])["test"] == ["1,200", "1,300", "1,299", "99"]
    assert "runs are missing" not in text


def test_the_title_is_that_of_the_definition():
    content = results()
    content["cohort"]["definition"] = {"title": "Heart failure in diabetes"}
    assert results_text(content).startswith("# Heart failure in diabetes\n")
    content["task"] = "in_a_year"
    for split in content["cohort"]["splits"].values():
        split["labels"] = split["positives"] = {"in_a_year": 7}
    assert results_text(content).startswith("# Heart failure in diabetes: in a year\n")


def test_missing_tests_and_runs_are_stated():
    content = results()
    content["test"]["patients"] = 1000
    content["table"][-1]["seeds"] = 2
    for row in content["table"]:
        row["delong"] = None
    text = results_text(content)
    assert "Tested on 1,299 examples of 1,000 patients" in text
    assert "There is no test against the baseline" in text
    assert "runs are missing" in text
    assert "p (DeLong)" not in text


def test_subgroups_are_shown_with_their_sizes():
    table = rows(section(results_text(results()), "AUROC by subgroup"))
    assert table["sex F"] == ["1,040", "77", "0.700 (0.680 to 0.720)", "0.700 (0.680 to 0.720)"]


def test_undefined_values_are_empty():
    content = results(best_attainable=None) | {"subgroups": [], "cohort": {}}
    content["table"][0]["auroc"] = {"value": None, "low": None, "high": None, "deviation": None}
    content["table"][1]["auroc"] |= {"low": float("nan"), "high": float("nan")}
    content["table"].pop()
    text = results_text(content)
    table = rows(section(text, "AUROC by training size"))
    assert table["logistic regression"] == ["", "0.620"]
    assert table["frozen cls"][1] == ""
    assert "best attainable" not in text
    assert "by subgroup" not in text
    assert not re.search("nan|None", text)
