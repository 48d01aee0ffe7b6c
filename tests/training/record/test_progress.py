# Covers: ehr_bert.training.record.metrics_log, ehr_bert.training.record.writing
import json

import pytest
import tensorflow as tf

from ehr_bert.training.record import progress as progress_module
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.training.record.metrics_log import MetricsLog
from ehr_bert.training.record.progress import Progress, Work
from tests.objectives.enabled import BOTH
from tests.user_errors import raises_user_error


def flops(values):
    counts = [values.get(f"{prefix}_count", 0.0) for prefix in ("masked_lm", "next_sentence")]
    return 2 * values["real_tokens"] + 3 * counts[0] + 5 * counts[1]


WORK = Work(positions=100, flops=flops)


class Clock:
    """A clock that a test sets."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(progress_module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def sums(**changes):
    values = {
        "masked_lm_loss": 30.0,
        "masked_lm_correct": 5.0,
        "masked_lm_count": 10.0,
        "next_sentence_loss": 2.0,
        "next_sentence_correct": 3.0,
        "next_sentence_count": 4.0,
        "real_tokens": 80.0,
        "patients": 4.0,
        "gradient_norm": 0.5,
        "skipped": 0.0,
        **changes,
    }
    return {name: tf.constant(value) for name, value in values.items()}


SKIPPED = sums(skipped=1.0, masked_lm_loss=float("nan"), gradient_norm=float("nan"))


def started(folder, first=0, steps=20, every=4, state=None):
    log = MetricsLog(TrainingFolder(folder))
    log.truncate_after(first)
    progress = Progress(
        log, first, steps, every, lambda step: step / 10, state or {}, BOTH.values(), shown=False
    )
    progress.begin(WORK)
    return progress


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_report_covers_the_updates_since_the_previous_one(tmp_path, clock):
    progress = started(tmp_path)
    for step in range(1, 9):
        clock.now += 0.5
        progress.step(step, sums(masked_lm_loss=10.0 * step, gradient_norm=float(step)))
    first, second = lines(tmp_path)
    assert (first["step"], second["step"]) == (4, 8)
    assert first["train/masked_lm_loss"] == (10 + 20 + 30 + 40) / 40
    assert second["train/masked_lm_loss"] == (50 + 60 + 70 + 80) / 40
    assert second["train/masked_lm_accuracy"] == 0.5
    assert second["train/next_sentence_loss"] == 0.5
    assert second["train/next_sentence_accuracy"] == 0.75
    assert second["train/gradient_norm"] == 6.5
    assert second["train/learning_rate"] == 0.7
    assert second["train/padding_fraction"] == pytest.approx(0.2)
    assert second["train/steps_per_second"] == 2
    assert second["train/real_tokens_per_second"] == 160
    assert second["train/patients_per_second"] == 8
    assert second["train/model_flops_per_second"] == 2 * (160 + 30 + 20)
    assert second["train/seconds"] == 2


def test_rates_exclude_compilation_and_pauses_but_seconds_do_not(tmp_path, clock):
    progress = started(tmp_path)
    for step in range(1, 5):
        clock.now += 60 if step == 1 else 0.5
        progress.step(step, sums())
        if step == 2:
            with progress.paused():
                clock.now += 100
    (report,) = lines(tmp_path)
    assert report["train/steps_per_second"] == 2
    assert report["train/seconds"] == 161.5
    progress.begin(WORK)
    for step in range(5, 9):
        clock.now += 60 if step == 5 else 0.25
        progress.step(step, sums())
    assert lines(tmp_path)[1]["train/steps_per_second"] == 4


def test_the_last_update_is_reported_and_untimed_updates_have_no_rates(tmp_path):
    progress = started(tmp_path, steps=1)
    progress.step(1, sums())
    (report,) = lines(tmp_path)
    assert "train/masked_lm_loss" in report
    assert "train/real_tokens_per_second" not in report


def test_a_disabled_objective_has_no_metrics(tmp_path):
    progress = started(tmp_path, steps=1)
    progress.step(1, sums(next_sentence_loss=0.0, next_sentence_correct=0.0, next_sentence_count=0.0))
    assert not [name for name in lines(tmp_path)[0] if "next_sentence" in name]


def test_a_report_after_resuming_covers_the_saved_sums(tmp_path, clock):
    for folder, stops in ((tmp_path / "whole", ()), (tmp_path / "stopped", (2, 3, 6))):
        progress = started(folder)
        for step in range(1, 9):
            clock.now += 0.5
            progress.step(step, sums(masked_lm_loss=0.1 * step, skipped=float(step % 4 == 2)))
            if step in stops:
                progress = started(folder, first=step, state=progress.state())
    for one, other in zip(lines(tmp_path / "whole"), lines(tmp_path / "stopped"), strict=True):
        assert {name: value for name, value in one.items() if "per_second" not in name} == {
            name: value for name, value in other.items() if "per_second" not in name
        }


def test_a_report_is_written_once(tmp_path):
    progress = started(tmp_path)
    progress.step(1, sums())
    before = progress.state()
    for _ in range(2):
        progress.report(1)
    started(tmp_path, first=1, state=before).report(1)
    assert [line["step"] for line in lines(tmp_path)] == [1]


def test_an_incomplete_line_is_removed(tmp_path):
    started(tmp_path, steps=1).step(1, sums())
    whole = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(whole + whole[:30])
    started(tmp_path, first=1)
    assert (tmp_path / "metrics.jsonl").read_text() == whole


def test_skipped_updates_are_counted_without_their_losses(tmp_path):
    progress = started(tmp_path)
    for step, update in enumerate((sums(), SKIPPED, SKIPPED, sums()), 1):
        progress.step(step, update)
    (report,) = lines(tmp_path)
    assert report["train/skipped_updates"] == 2
    assert report["train/masked_lm_loss"] == 3
    assert report["train/gradient_norm"] == 0.5


def test_three_consecutive_skipped_updates_are_a_user_error_across_reports_and_processes(tmp_path):
    progress = started(tmp_path, every=2)
    progress.step(1, sums())
    progress.step(2, SKIPPED)
    progress.step(3, SKIPPED)
    again = started(tmp_path, first=3, every=2, state=progress.state())
    with raises_user_error("not-finite", "updates 2 to 4"):
        again.step(4, SKIPPED)


def test_sums_are_checked_late_but_before_saving(tmp_path):
    progress = started(tmp_path, every=100, steps=100)
    for step in range(1, 5):
        progress.step(step, SKIPPED if step > 1 else sums())
    with raises_user_error("not-finite", "updates 2 to 4"):
        progress.state()


def test_an_unwritable_log_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with raises_user_error("cannot-write", tmp_path / "file"):
        MetricsLog(TrainingFolder(tmp_path / "file" / "D")).write(1, "train", {"loss": 1.0})
