"""Summary of a training run: its speed, memory and last evaluation."""

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
    """Share of one corpus in a phase that mixes corpora.

    Attributes:
        asked: Requested share of patients, or of tokens if the batch is given in tokens.
        realised: Actual share.
        patients: Number of patients read.
        real_tokens: Number of their tokens.
    """

    asked: float
    realised: float
    patients: int
    real_tokens: int


@dataclass(frozen=True)
class Summary:
    """Contents of `summary.json`, over all processes of a training run.

    Speeds are medians over the reports; None if no report has one.

    Attributes:
        reason: Why the training run ended.
        steps: Number of updates.
        seconds: Time of all processes, without updates that were lost and repeated.
        real_tokens_per_second: Tokens per second, without padding.
        padding_fraction: Share of the computed positions that are padding.
        model_flops_utilisation: Speed of the model's products on all devices, as a share of `product_rate`.
        product_rate: Speed of the fastest matrix product of this device. None after an interruption, which
            leaves no time to measure it.
        precision: Precision of the computation.
        device: Name of the device.
        devices: Number of devices.
        peak_memory_bytes: Peak memory of a GPU, or of this process.
        skipped_updates: Number of updates whose loss or gradient was not finite.
        corrupt_records: Number of damaged records of examples that were skipped.
        mixture: Shares of the corpora in each phase that mixes several, by number and name, without skipped
            updates.
        evaluation: Step and metrics of the last evaluation, if there is one.
        best_evaluation: Step and metrics of the evaluation with the lowest loss.
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
            shares = (f"{share.realised:.2%} {name} ({share.asked:.2%})" for name, share in corpora.items())
            lines.append(f"mixture of phase {phase} (requested shares in brackets): {', '.join(shares)}")
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
    """Summarise `metrics.jsonl`, measure the device, and write `summary.json`.

    Args:
        folder: The training folder.
        outcome: Outcome of the training run.
        config: Shape of the model.
        plans: The phases.
        strategy: Strategy of the training run.
        precision: Precision of the computation, `float32` or `bfloat16`.
        corrupt_records: Number of damaged records of examples that were skipped.

    Raises:
        UserError: The file cannot be written.
    """
    memory = _peak_memory_bytes()  # before the measurement needs more
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

    summary = Summary(
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
        best_evaluation=min(evaluations, key=lambda metrics: metrics["loss"]) if evaluations else None,
    )
    with writing(folder.summary_file):
        write_json(folder.summary_file, asdict(summary))
    return summary


def _mixture(number: int, plan: PhasePlan, total: Callable[[str], float]) -> dict[str, CorpusShare]:
    """Return the shares of the corpora in phase `number`. `total` sums a metric of all reports."""
    patients, tokens = (
        {name: int(total(f"{MIXTURE}{number}/{name}/{what}")) for name in plan.shares}
        for what in ("patients", "tokens")
    )
    counts = patients if plan.phase.batch_patients else tokens
    whole = max(sum(counts.values()), 1)
    return {
        name: CorpusShare(requested, counts[name] / whole, patients[name], tokens[name])
        for name, requested in plan.shares.items()
    }


def _named(line: dict[str, Any], prefix: str) -> dict[str, float]:
    """Return the step of a line, and its metrics with this prefix."""
    metrics = {name.removeprefix(prefix): value for name, value in line.items() if name.startswith(prefix)}
    return {"step": line["step"], **metrics}


def _median(reports: list[dict[str, float]], name: str) -> float | None:
    values = [report[name] for report in reports if name in report]
    return statistics.median(values) if values else None


def _device() -> str:
    """Return the name of the device: a GPU, a TPU, or the processor of this machine."""
    for gpu in tf.config.list_physical_devices("GPU"):
        return str(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name))
    if tf.config.list_logical_devices("TPU"):
        return "TPU"
    information = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*:\s*(.+)", information.read_text()) if information.exists() else None
    name = match[1].strip() if match else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _peak_memory_bytes() -> int:
    if gpus := len(tf.config.list_logical_devices("GPU")):
        peaks = [tf.config.experimental.get_memory_info(f"GPU:{number}")["peak"] for number in range(gpus)]
        return int(max(peaks))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
