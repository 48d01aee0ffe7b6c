"""`ehr-bert evaluate`: write the tables and plots of a comparison from its finished runs."""

import argparse
import logging
from pathlib import Path

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="output folder of `ehr-bert finetune`")


def run(arguments: argparse.Namespace) -> None:
    """Write the results of all finished runs, and print the table of AUROCs."""
    print(write_results(arguments.folder))


def write_results(folder: Path) -> str:
    """Write `results.json`, `results.md` and the plots, and return a text with the table of AUROCs."""
    from collections.abc import Iterator

    from tqdm import tqdm

    from ehr_bert.files import write_json
    from ehr_bert.metrics.metric import METRICS
    from ehr_bert.prediction.comparison.results import RESULTS_FILE, Cell, curves, summarise_runs
    from ehr_bert.report.prediction_report import RESULTS_TEXT, write_report
    from ehr_bert.report.prediction_tables import by_size, tested_on

    is_hidden = not logger.isEnabledFor(logging.INFO)
    with tqdm(desc="evaluating", unit="model", dynamic_ncols=True, disable=is_hidden) as bar:

        def progress(cells: list[Cell]) -> Iterator[Cell]:
            bar.reset(len(cells))
            for cell in cells:
                yield cell
                bar.update()

        results = summarise_runs(folder, progress)
    write_json(folder / RESULTS_FILE, results)
    write_report(results, curves(folder), folder)
    table = by_size(results["table"], METRICS["auroc"], results)
    caption = f"Tested on {tested_on(results)}. Brackets contain 95% confidence intervals over test patients."
    return f"{table}\n\n{caption}\nAll results are in {folder / RESULTS_TEXT}."
