"""The model that a grid leaves for `ehr-bert predict`."""

from pathlib import Path

from ehr_bert import __version__
from ehr_bert.files import SUMMARY_FILE, read_json
from ehr_bert.metrics.calibration import fit_calibration
from ehr_bert.prediction.comparison.grid import Grid
from ehr_bert.prediction.comparison.results import read_cells
from ehr_bert.prediction.contenders.neural import Start, fit_neural
from ehr_bert.prediction.contenders.problem import Problem
from ehr_bert.prediction.optimization import Runtime
from ehr_bert.prediction.predictor import MADE_BY, MODEL_FOLDER, save_predictor


def leave_model(grid: Grid, problem: Problem, head: str) -> Path | None:
    """Leaves the fine-tuned model of the largest size and the seed that was best on validation.

    It is fitted once more: runs keep predictions, not weights, and the same seed gives the same again.

    Args:
        grid: Its runs are done.
        problem: The grid's.
        head: The head's name.

    Returns:
        Its folder; None where no such contender was among the runs.
    """
    name, folder = f"{Start.PRETRAINED}_{head}", grid.folder / MODEL_FOLDER
    cells = [cell for cell in read_cells(grid.folder) if cell.model == name]
    if not cells:
        return None
    run = max(cells, key=lambda cell: cell.size).best_run
    record = run.record()
    facts = {
        "version": __version__,
        "task": grid.task,
        "model": name,
        # By which histories are made that it is to predict from.
        "cohort": {key: problem.cohort.facts[key] for key in MADE_BY if key in problem.cohort.facts},
        **{
            key: record[key] for key in ("size", "seed", "train_examples", "train_positives", "valid", "test")
        },
    }
    if (folder / SUMMARY_FILE).exists():
        before = read_json(folder / SUMMARY_FILE)
        if before | facts == before:
            return folder
    sides = problem.sides(run.size, run.seed)
    predictor, scores = fit_neural(problem, sides, run.seed, Start.PRETRAINED, head)
    calibration = fit_calibration(scores.valid, problem.labels[sides.valid], grid.tuning.calibration)
    if Runtime().accelerator.is_main_process:
        save_predictor(folder, predictor, problem.export, calibration, facts, grid.tuning.max_length)
    return folder
