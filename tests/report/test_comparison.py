import json
import statistics

import pytest

from ehr_bert.report.comparison import NOT_COMPARABLE, Comparison, Spread

BASELINE = {
    "patients": 7,
    "code_frequencies_loss": 5.5,
    "code_frequencies_accuracy": 0.05,
    "prevalence_loss": 0.6,
    "prevalence_auroc": 0.5,
}


def figures(loss: float, accuracy: float, auroc: float | None = 0.6, **others) -> dict[str, float]:
    metrics = BASELINE | {"step": 1200, "masked_lm_loss": loss, "masked_lm_accuracy": accuracy} | others
    return metrics if auroc is None else metrics | {"next_sentence_auroc": auroc}


def cells(comparison: Comparison, row: int) -> list[str]:
    return [cell.strip() for cell in str(comparison).splitlines()[row].strip("|").split("|")]


def test_means_and_deviations_are_those_of_the_sample():
    losses = [3.0, 3.5, 4.75]
    comparison = Comparison({"a": {seed: figures(loss, 0.1) for seed, loss in enumerate(losses, 1)}})
    spread = comparison.spread("a", "masked_lm_loss")
    assert spread == Spread(statistics.mean(losses), statistics.stdev(losses))
    assert str(spread) == "3.7500 ± 0.9014"
    assert comparison.spread("a", "another") is None


def test_one_seed_has_no_deviation():
    comparison = Comparison({"a": {1: figures(3.0, 0.1)}})
    assert str(comparison.spread("a", "masked_lm_loss")) == "3.0000"
    assert comparison.to_dict()["a"]["masked_lm_loss"] == {"mean": 3.0, "standard_deviation": None}


def test_the_best_value_is_bold_and_the_second_best_underlined():
    comparison = Comparison(
        {"a": {1: figures(3.0, 0.3)}, "b": {1: figures(2.0, 0.1)}, "c": {1: figures(4.0, 0.2)}}
    )
    assert [cells(comparison, row)[3] for row in (2, 3, 4)] == ["<u>3.0000</u>", "**2.0000**", "4.0000"]
    assert [cells(comparison, row)[4] for row in (2, 3, 4)] == ["**0.3000**", "0.1000", "<u>0.2000</u>"]
    assert [cells(comparison, row)[5] for row in (2, 3, 4)] == ["**0.6000**"] * 3  # a tie


def test_the_last_row_is_the_baseline():
    assert cells(Comparison({"a": {1: figures(3.0, 0.3)}}), -1) == [
        "baseline",
        "",
        "",
        "5.5000",
        "0.0500",
        "0.5000",
    ]


def test_updates_and_seeds_are_shown():
    comparison = Comparison(
        {"a": {1: figures(3, 0.1), 2: figures(3, 0.1, step=700)}, "b": {1: figures(3, 0.1)}}
    )
    assert cells(comparison, 2)[:3] == ["a", "700 to 1,200", "2"]
    assert cells(comparison, 3)[:3] == ["b", "1,200", "1"]


def test_a_metric_that_is_missing_for_a_seed_is_left_out():
    comparison = Comparison({"a": {1: figures(3, 0.1, auroc=None), 2: figures(3, 0.1)}})
    assert cells(comparison, 2)[5] == ""
    assert "next_sentence_auroc" not in comparison.to_dict()["a"]


@pytest.mark.parametrize(
    "other", [{"patients": 8}, {"code_frequencies_loss": 5.6}, {"prevalence_loss": 0.61}]
)
def test_different_held_out_data_is_reported(other):
    same = Comparison({"a": {1: figures(3, 0.1)}, "b": {1: figures(3, 0.1)}})
    assert NOT_COMPARABLE not in str(same)
    assert NOT_COMPARABLE in str(Comparison({"a": {1: figures(3, 0.1)}, "b": {1: figures(3, 0.1, **other)}}))


def test_all_metrics_are_json():
    by_seed = {"a": {1: figures(3, 0.1), 2: figures(4, 0.1)}}
    values = json.loads(json.dumps(Comparison(by_seed).to_dict()))
    assert values["a"]["seeds"]["2"]["masked_lm_loss"] == 4
    assert values["a"]["masked_lm_loss"]["mean"] == 3.5
