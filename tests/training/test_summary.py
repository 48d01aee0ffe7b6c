import json
from pathlib import Path

import pytest
import tensorflow as tf

from ehr_bert.training.loop import StopReason, TrainingOutcome
from ehr_bert.training.phases import PhasePlan
from ehr_bert.training.recipe import Phase
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.training.summary import summarise_training
from tests.model.small import SMALL
from tests.training.streams import RandomUpdates

LINES = [
    {
        "step": 5,
        "train/seconds": 10.0,
        "train/skipped_updates": 1.0,
        "train/padding_fraction": 0.5,
    },
    *(
        {
            "step": step,
            "train/seconds": 2.0,
            "train/skipped_updates": 0.0,
            "train/padding_fraction": 0.1,
            "train/real_tokens_per_second": float(speed),
            "train/model_flops_per_second": 100.0 * speed,
        }
        for step, speed in ((10, 7), (15, 9), (20, 1))
    ),
    {"step": 10, "eval/loss": 2.0},
    {"step": 20, "eval/loss": 3.0},
]
UNREPORTED = {"seconds": 0.5, "skipped": 1.0, "skipped_in_a_row": 1.0}


def summarised(path, lines, outcome):
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    phase = Phase(steps=22)
    summary = summarise_training(
        TrainingFolder(path),
        outcome,
        SMALL,
        [PhasePlan(RandomUpdates(), 22, phase)],  # type: ignore[arg-type]
        tf.distribute.get_strategy(),
        precision="float32",
        corrupt_records=3,
    )
    return summary, json.loads((path / "summary.json").read_text())


def test_a_summary_covers_all_reports_of_all_processes(tmp_path):
    summary, written = summarised(
        tmp_path, LINES, TrainingOutcome(22, StopReason.EARLY_STOP, None, UNREPORTED)
    )
    assert (written["reason"], written["steps"], written["seconds"]) == ("early stop", 22, 16.5)
    assert written["real_tokens_per_second"] == 7
    assert written["padding_fraction"] == 0.1
    rate = written["product_rate"]["flops_per_second"]
    assert written["model_flops_utilisation"] == pytest.approx(700 / rate)
    assert (written["skipped_updates"], written["corrupt_records"]) == (2, 3)
    assert (written["precision"], written["devices"]) == ("float32", 1)
    assert written["device"]
    assert 10**8 < written["peak_memory_bytes"] < 10**12
    assert written["evaluation"] == {"step": 20, "loss": 3.0}
    assert written["best_evaluation"] == {"step": 10, "loss": 2.0}
    assert str(summary).startswith("early stop: 22 steps, 2 skipped in 16 s on ")


def test_the_docs_tell_what_is_reported():
    documentation = (Path(__file__).parent.parent.parent / "docs" / "training.md").read_text()
    names = {name.removeprefix("train/") for line in LINES for name in line if name.startswith("train/")}
    assert [name for name in names if f"`{name}`" not in documentation] == []
    assert all(f"`{reason}`" in documentation for reason in StopReason)


def test_told_to_stop_it_takes_no_time_to_measure_the_device(tmp_path):
    _, written = summarised(tmp_path, LINES, TrainingOutcome(22, StopReason.INTERRUPTED, None, UNREPORTED))
    assert written["product_rate"] is written["model_flops_utilisation"] is None
    assert written["real_tokens_per_second"] == 7


def test_what_was_not_measured_is_null(tmp_path):
    summary, written = summarised(tmp_path, [], TrainingOutcome(0, StopReason.FINISHED, None, {}))
    for name in ("real_tokens_per_second", "padding_fraction", "model_flops_utilisation", "evaluation"):
        assert written[name] is None
    assert "tokens/s" not in str(summary)
