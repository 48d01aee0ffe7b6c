"""The summary of a training: how fast it was, and how it went."""

import os
import platform
import re
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from ehr_bert.files import write_json
from ehr_bert.model.config import ModelConfig
from ehr_bert.training.flops import ProductRate, measured_flops_per_second, product_shapes
from ehr_bert.training.loop import StopReason, TrainingOutcome
from ehr_bert.training.phases import PhasePlan
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.training.record.metrics_log import read_metrics
from ehr_bert.training.record.progress import MIXTURE
from ehr_bert.training.record.writing import writing


@dataclass(frozen=True)
class CorpusShare:
    """What a phase that mixes corpora took of one of them.

    Attributes:
        asked: The share of patients that was asked for; of tokens where the batch is stated in tokens.
        realised: The share that it was.
        patients: Patients that were taken.
        real_tokens: Their tokens.
    """

    asked: float
    realised: float
    patients: int
    real_tokens: int


@dataclass(frozen=True)
class Summary:
    """What `summary.json` says of a training, over all processes that it took.

    Speeds are medians over the reports; None where none was timed.

    Attributes:
        reason: Why it ended.
        steps: Updates.
        seconds: Time of all processes, without that of updates that were lost and made again.
        real_tokens_per_second: Tokens trained on a second, padding not counted.
        padding_fraction: Share of the computed positions that were padding.
        model_flops_utilisation: Share of `product_rate`, on all devices, that the model's products got.
        product_rate: The fastest matrix product of this device; None, and with it the utilisation, where the
            training was told to stop, for that leaves no time to measure it.
        precision: Of the computation.
        device: Its name.
        devices: How many there were.
        peak_memory_bytes: The most of a GPU's memory, or of this process's, that was in use.
        skipped_updates: Updates whose loss or gradient was not finite.
        corrupt_records: Records of examples that were left out.
        mixture: What each phase that mixes corpora took of them, by its number and their names; skipped
            updates are not counted.
        evaluation: Step and figures of the last evaluation, if there was one.
        best_evaluation: Those of the one with the lowest loss.
    """

    reason: str
    steps: int
    seconds: float
    real_tokens_per_second: float | None
    padding_fraction: float | None
    model_flops_utilisation: float | None
    product_rate: ProductRate | None
    precision: str
    device: str
    devices: int
    peak_memory_bytes: int
    skipped_updates: int
    corrupt_records: int
    mixture: dict[int, dict[str, CorpusShare]]
    evaluation: dict[str, float] | None
    best_evaluation: dict[str, float] | None

    def __str__(self) -> str:
        tokens, used = self.real_tokens_per_second, self.model_flops_utilisation
        speed = f", {tokens:,.0f} real tokens/s" if tokens is not None else ""
        share = f" ({used:.0%} of the device's products)" if used is not None else ""
        skipped = f", {self.skipped_updates} skipped" if self.skipped_updates else ""
        lines = [
            f"{self.reason}: {self.steps:,} steps{skipped} in {self.seconds:,.0f} s on {self.device}, "
            f"{self.precision}{speed}{share}, {self.peak_memory_bytes / 1e9:.1f} GB of memory"
        ]
        for phase, corpora in self.mixture.items():
            shares = (f"{each.realised:.2%} {name} ({each.asked:.2%})" for name, each in corpora.items())
            lines.append(f"phase {phase} was mixed of (and was to be): {', '.join(shares)}")
        return "\n".join(lines)


def summarise_training(
    folder: TrainingFolder,
    outcome: TrainingOutcome,
    config: ModelConfig,
    plans: Sequence[PhasePlan],
    strategy: tf.distribute.Strategy,
    *,
    precision: str,
    corrupt_records: int,
) -> Summary:
    """Sums up `metrics.jsonl`, measures the device, and writes `summary.json`.

    Args:
        folder: The training folder.
        outcome: What became of the training.
        config: The model's shape.
        plans: The phases.
        strategy: Where it was trained.
        precision: Of the computation, "float32" or "bfloat16".
        corrupt_records: Records of examples that were left out.

    Raises:
        UserError: the file can't be written.
    """
    memory = _peak_memory_bytes()  # before more is taken for measuring
    shapes = [shape for plan in plans for shape in product_shapes(config, plan.updates.layout)]
    fastest = (
        measured_flops_per_second(precision, shapes) if outcome.reason != StopReason.INTERRUPTED else None
    )
    lines = read_metrics(folder)
    reports = [_named(line, "train/") for line in lines if "train/seconds" in line]
    evaluations = [_named(line, "eval/") for line in lines if "eval/loss" in line]
    devices = strategy.num_replicas_in_sync
    flops = _median(reports, "model_flops_per_second")

    def total(name: str, unreported: str = "") -> float:
        reported = sum(report.get(name, 0.0) for report in reports)
        return reported + outcome.unreported.get(unreported or name, 0.0)

    found = Summary(
        reason=str(outcome.reason),
        steps=outcome.steps,
        seconds=total("seconds", "seconds"),
        real_tokens_per_second=_median(reports, "real_tokens_per_second"),
        padding_fraction=_median(reports, "padding_fraction"),
        model_flops_utilisation=flops / (fastest.flops_per_second * devices) if flops and fastest else None,
        product_rate=fastest,
        precision=precision,
        device=_device(),
        devices=devices,
        peak_memory_bytes=memory,
        skipped_updates=int(total("skipped_updates", "skipped")),
        corrupt_records=corrupt_records,
        mixture={
            number: _mixture(number, plan, total) for number, plan in enumerate(plans, 1) if plan.shares
        },
        evaluation=evaluations[-1] if evaluations else None,
        best_evaluation=min(evaluations, key=lambda each: each["loss"]) if evaluations else None,
    )
    with writing(folder.summary_file):
        write_json(folder.summary_file, asdict(found))
    return found


def _mixture(number: int, plan: PhasePlan, total: Callable[[str], float]) -> dict[str, CorpusShare]:
    """What phase `number` took of its corpora; `total` is the sum of a report's figure over the training."""
    patients, tokens = (
        {name: int(total(f"{MIXTURE}{number}/{name}/{what}")) for name in plan.shares}
        for what in ("patients", "tokens")
    )
    counts = patients if plan.phase.batch_patients else tokens
    whole = max(sum(counts.values()), 1)
    return {
        name: CorpusShare(asked, counts[name] / whole, patients[name], tokens[name])
        for name, asked in plan.shares.items()
    }


def _named(line: dict[str, Any], prefix: str) -> dict[str, float]:
    """A line's step, and the figures behind the prefix."""
    figures = {name.removeprefix(prefix): value for name, value in line.items() if name.startswith(prefix)}
    return {"step": line["step"], **figures}


def _median(reports: list[dict[str, float]], name: str) -> float | None:
    found = [report[name] for report in reports if name in report]
    return statistics.median(found) if found else None


def _device() -> str:
    """The name of what is computed on: a GPU, or this machine's processor."""
    for gpu in tf.config.list_physical_devices("GPU"):
        return str(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name))
    if tf.config.list_logical_devices("TPU"):
        return "TPU"
    information = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", information.read_text()) if information.exists() else None
    name = named[1].strip() if named else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _peak_memory_bytes() -> int:
    if gpus := len(tf.config.list_logical_devices("GPU")):
        peaks = [tf.config.experimental.get_memory_info(f"GPU:{number}")["peak"] for number in range(gpus)]
        return int(max(peaks))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
