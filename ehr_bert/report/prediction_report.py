"""What a fine-tuning shows a person: `results.md` and the plots it names."""

from collections.abc import Mapping
from pathlib import Path

from ehr_bert.files import atomic_files
from ehr_bert.report.prediction_plots import Predictions, write_plots
from ehr_bert.report.prediction_tables import Results, results_text

RESULTS_TEXT = "results.md"
"""The file of the tables."""


def write_report(results: Results, curves: Mapping[str, Predictions], folder: Path) -> None:
    """Writes the tables and the plots of a fine-tuning.

    Args:
        results: What `results.json` holds.
        curves: By model, labels and probabilities of the same test examples, `[N]` each, to be drawn as ROC,
            precision-recall, calibration and decision curves.
        folder: The folder of the fine-tuning.
    """
    plots = write_plots(results, curves, folder)
    pictures = "\n".join(
        f"![{path.stem.replace('_', ' ')}]({path.name})" for path in plots if path.suffix == ".svg"
    )
    with atomic_files(folder / RESULTS_TEXT) as (temporary,):
        temporary.write_text(f"{results_text(results)}\n## Plots\n\n{pictures}\n", encoding="utf-8")
