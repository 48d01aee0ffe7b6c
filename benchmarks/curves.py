"""Draw the curves of a training: both objectives on held-out patients, with their baselines.

python benchmarks/curves.py TRAINING_FOLDER docs/images/pretraining.png
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PANELS = (
    ("masked_lm_loss", "code_frequencies_loss", "masked codes: loss, nats", "code frequencies"),
    (
        "masked_lm_accuracy_top_10",
        "code_frequencies_accuracy_top_10",
        "masked codes: top-10 accuracy",
        "code frequencies",
    ),
    ("next_sentence_auroc", "prevalence_auroc", "prolonged stay: AUROC", "chance"),
    (
        "next_sentence_average_precision",
        "prevalence_average_precision",
        "prolonged stay: average precision",
        "prevalence",
    ),
)
"""For each panel: the metric, its baseline, and the titles of both."""


def draw(folder: Path, image: Path) -> None:
    """Draw the evaluations in `metrics.jsonl`, and for the loss also the training reports."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if "eval/loss" in line]
    reports = [line for line in lines if "train/masked_lm_loss" in line]
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
    for axis, (name, baseline, title, baseline_name) in zip(axes.flat, PANELS, strict=True):
        steps = [line["step"] for line in evaluations]
        if name == "masked_lm_loss":
            axis.plot(
                [line["step"] for line in reports],
                [line["train/masked_lm_loss"] for line in reports],
                color="0.7",
                linewidth=0.8,
                label="training patients",
            )
        axis.plot(
            steps, [line[f"eval/{name}"] for line in evaluations], marker="o", label="held-out patients"
        )
        level = evaluations[-1][f"eval/{baseline}"]
        axis.axhline(level, color="0.3", linestyle="--", label=baseline_name)
        axis.set_title(title)
        axis.legend()
    for axis in axes[1]:
        axis.set_xlabel("updates")
    image.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(image, dpi=110)


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description="Draw the curves of a training.")
    parser.add_argument("folder", type=Path, help="training folder")
    parser.add_argument("image", type=Path, help="image to write")
    options = parser.parse_args()
    draw(options.folder, options.image)


if __name__ == "__main__":
    main()
