# Covers: ehr_bert.report.prediction_plots, ehr_bert.report.prediction_report
import xml.etree.ElementTree as ElementTree

import pytest
from matplotlib.image import imread

from ehr_bert.report.prediction_plots import write_plots
from ehr_bert.report.prediction_report import write_report
from tests.report.prediction_results import MODELS, curves, results

PLOTS = ("learning_curve", "roc", "precision_recall", "calibration", "decision_curve")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(results(), curves(), folder)
    return folder


def texts(path):
    return {element.text for element in ElementTree.parse(path).iter() if element.tag.endswith("}text")}


def test_each_plot_is_written_as_png_and_svg(report):
    expected = {f"{plot}.{kind}" for plot in PLOTS for kind in ("png", "svg")}
    assert {path.name for path in report.iterdir()} == {*expected, "results.md"}


@pytest.mark.parametrize("plot", PLOTS)
def test_each_plot_names_its_models(report, plot):
    assert {model.replace("_", " ") for model in MODELS} <= texts(report / f"{plot}.svg")
    picture = imread(report / f"{plot}.png")
    assert picture.min() < picture.max()


def test_the_learning_curve_shows_the_sizes_and_the_best_attainable_auroc(report):
    assert {"250", "1,000", "best attainable"} <= texts(report / "learning_curve.svg")


def test_the_tables_show_the_plots(report):
    text = (report / "results.md").read_text(encoding="utf-8")
    assert all(f"({plot}.svg)" in text for plot in PLOTS)


def test_the_same_results_give_the_same_bytes(report, tmp_path):
    write_plots(results(), curves(), tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (report / path.name).read_bytes(), path.name


def test_without_predictions_only_the_learning_curve_is_drawn(tmp_path):
    write_plots(results(best_attainable=None), {}, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"learning_curve.png", "learning_curve.svg"}
    assert "best attainable" not in texts(tmp_path / "learning_curve.svg")
