"""Report of a comparison: `results.md` and its plots."""

from collections.abc import Mapping
from pathlib import Path

from ehr_bert.files import atomic_files
from ehr_bert.report.prediction_plots import Predictions, write_plots
from ehr_bert.report.prediction_tables import Results, results_text

RESULTS_TEXT = "results.md"
"""File with the tables."""


def write_report(results: Results, curves: Mapping[str, Predictions], folder: Path) -> None:
    """Write the tables and the plots of a comparison.

    Args:
        results: Content of `results.json`.
        curves: Labels and probabilities of the test examples by model, `[N]` each, for the ROC,
            precision-recall, calibration and decision curves.
        folder: Folder of the comparison.
    """
    plots = write_plots(results, curves, folder)
    images = "\n".join(
        f"![{path.stem.replace('_', ' ')}]({path.name})" for path in plots if path.suffix == ".svg"
    )
    with atomic_files(folder / RESULTS_TEXT) as (temporary,):
        temporary.write_text(f"{results_text(results)}\n## Plots\n\n{images}\n", encoding="utf-8")
