"""The fine-tuned model of a comparison that `ehr-bert predict` uses."""

from pathlib import Path

from ehr_bert import __version__
from ehr_bert.files import SUMMARY_FILE, read_json
from ehr_bert.metrics.calibration import fit_calibration
from ehr_bert.prediction.comparison.grid import Grid
from ehr_bert.prediction.comparison.results import read_cells
from ehr_bert.prediction.contenders.neural import Start, fit_neural
from ehr_bert.prediction.contenders.problem import Problem
from ehr_bert.prediction.optimization import Runtime
from ehr_bert.prediction.predictor import HISTORY_FACTS, MODEL_FOLDER, save_predictor


def save_best_model(grid: Grid, problem: Problem, head: str) -> Path | None:
    """Save the fine-tuned model at the largest size with the seed that has the highest validation AUROC.

    The model is fitted again, since runs save predictions but no weights. The same seed gives the same model.

    Args:
        grid: Grid whose runs are finished.
        problem: Problem of the grid.
        head: Name of the head.

    Returns:
        Folder of the model; None if no run fine-tuned the pretrained model with this head.
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
        # Histories to predict from must be made in the same way.
        "cohort": {key: problem.cohort.facts[key] for key in HISTORY_FACTS if key in problem.cohort.facts},
        **{
            key: record[key] for key in ("size", "seed", "train_examples", "train_positives", "valid", "test")
        },
    }
    if (folder / SUMMARY_FILE).exists():
        saved_facts = read_json(folder / SUMMARY_FILE)
        if saved_facts | facts == saved_facts:
            return folder
    split_rows = problem.split_rows(run.size, run.seed)
    predictor, scores = fit_neural(problem, split_rows, run.seed, Start.PRETRAINED, head)
    calibration = fit_calibration(scores.valid, problem.labels[split_rows.valid], grid.tuning.calibration)
    if Runtime().accelerator.is_main_process:
        save_predictor(folder, predictor, problem.export, calibration, facts, grid.tuning.max_length)
    return folder
