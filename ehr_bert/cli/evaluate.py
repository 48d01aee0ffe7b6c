"""`ehr-bert evaluate`: the tables and plots of a fine-tuning, from its runs."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder that `ehr-bert finetune` wrote")


def run(arguments: argparse.Namespace) -> None:
    """Writes and prints the table of all runs that are done."""
    print(write_results(arguments.folder))


def write_results(folder: Path) -> str:
    """Writes `results.json`, `results.md` and the plots; the table of AUROCs, and where the others are."""
    from collections.abc import Iterator

    from tqdm import tqdm

    from ehr_bert.files import write_json
    from ehr_bert.metrics.metric import METRICS
    from ehr_bert.prediction.comparison.results import Cell, curves, summarise_runs
    from ehr_bert.report.prediction_report import RESULTS_TEXT, write_report
    from ehr_bert.report.prediction_tables import by_size, tested_on

    with tqdm(desc="evaluating", unit="model", dynamic_ncols=True) as bar:

        def shown(cells: list[Cell]) -> Iterator[Cell]:
            bar.reset(len(cells))
            for cell in cells:
                yield cell
                bar.update()

        results = summarise_runs(folder, shown)
    write_json(folder / "results.json", results)
    write_report(results, curves(folder), folder)
    table = by_size(results["table"], METRICS["auroc"], results)
    told = f"Tested on {tested_on(results)}; 95% intervals over these patients."
    return f"{table}\n\n{told}\nAll figures are in {folder / RESULTS_TEXT}"
