import re

from ehr_bert.report.prediction_tables import results_text
from tests.report.prediction_results import MODELS, results


def section(text, heading):
    return text.split(f"## {heading}\n")[1].split("\n## ")[0]


def rows(part):
    """Cells by the first cell of their row."""
    lines = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_every_model_stands_at_every_size_with_its_interval():
    found = rows(section(results_text(results()), "AUROC by training size"))
    assert found["trained on"] == ["250", "1,000"]
    assert found["logistic regression"] == ["0.605 (0.585 to 0.625)", "0.620 (0.600 to 0.640)"]
    assert found["best attainable"] == ["0.810", "0.810"]


def test_the_best_is_bold_as_its_figure_is_read():
    made = results()
    for row, slope in zip(made["table"][1::2], (0.7, 1.1, 0.9), strict=True):
        row["calibration_slope"] |= {"value": slope}
    bold = {}
    for part in section(results_text(made), "Trained on 1,000").split("### Calibration"):
        found = rows(part)
        bold |= {
            title: [model for model in map(name, MODELS) if found[model][place].startswith("**")]
            for place, title in enumerate(found["model"])
        }
    assert bold["AUROC"] == ["frozen cls"]
    assert bold["Brier score"] == ["logistic regression"]
    assert bold["calibration slope"] in (["pretrained gru"], ["frozen cls"])
    assert bold["seeds"] == []


def name(model):
    return model.replace("_", " ")


def test_models_are_compared_with_the_baseline():
    text = results_text(results())
    part = section(text, "Trained on 250").split("### Calibration")[0]
    found = rows(part)
    assert found["pretrained gru"][-2:] == ["+0.030 (+0.010 to +0.090)", "< 0.001"]
    assert found["logistic regression"][-2:] == ["", ""]
    assert "The baseline is logistic regression." in part
    found = rows(section(text, "AUROC less the best baseline's"))
    assert found["frozen cls"] == ["+0.060 (p < 0.001)"] * 2
    assert found["the baseline"] == ["logistic regression"] * 2


def test_it_is_told_who_was_tested_and_how_intervals_came_about():
    text = results_text(results())
    assert text.startswith("# Prediction of label\n\nTested on 1,299 patients, 99 with the outcome.\n")
    assert "1,000 draws of the test patients" in text
    assert rows(text.split("\n## ")[0])["test"] == ["1,200", "1,300", "1,299", "99"]
    assert "Runs are missing" not in text


def test_the_title_is_the_definitions():
    made = results()
    made["cohort"]["definition"] = {"title": "Heart failure in diabetes"}
    assert results_text(made).startswith("# Heart failure in diabetes\n")
    made["task"] = "in_a_year"
    for side in made["cohort"]["splits"].values():
        side["labels"] = side["positives"] = {"in_a_year": 7}
    assert results_text(made).startswith("# Heart failure in diabetes: in a year\n")


def test_a_comparison_that_is_missing_is_told():
    made = results()
    made["test"]["patients"] = 1000
    made["table"][-1]["seeds"] = 2
    for row in made["table"]:
        row["delong"] = None
    text = results_text(made)
    assert "Tested on 1,299 examples of 1,000 patients" in text
    assert "There is no test against the baseline" in text
    assert "Runs are missing" in text
    assert "p (DeLong)" not in text


def test_groups_stand_with_their_sizes():
    found = rows(section(results_text(results()), "AUROC by group"))
    assert found["sex F"] == ["1,040", "77", "0.700 (0.680 to 0.720)", "0.700 (0.680 to 0.720)"]


def test_what_is_not_known_is_left_empty():
    made = results(best_attainable=None) | {"subgroups": [], "cohort": {}}
    made["table"][0]["auroc"] = {"value": None, "low": None, "high": None, "deviation": None}
    made["table"][1]["auroc"] |= {"low": float("nan"), "high": float("nan")}
    made["table"].pop()
    text = results_text(made)
    found = rows(section(text, "AUROC by training size"))
    assert found["logistic regression"] == ["", "0.620"]
    assert found["frozen cls"][1] == ""
    assert "best attainable" not in text
    assert "by group" not in text
    assert not re.search("nan|None", text)
