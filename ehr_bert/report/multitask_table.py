"""The stages of several tasks in Markdown: each task's figures, alone, with the others, and after that."""

from collections.abc import Mapping
from typing import Any

from ehr_bert.report.markdown import markdown_table

TITLES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "brier": "Brier",
    "macro_auroc": "macro AUROC",
    "micro_auroc": "micro AUROC",
    "macro_average_precision": "macro average precision",
    "micro_average_precision": "micro average precision",
    "r2": "R²",
    "mean_absolute_error": "mean absolute error",
    "spearman": "Spearman",
}
"""The figures that are shown, of those that a task has; the first is compared with the task alone."""

STAGE_TITLES = {"single": "alone", "joint": "with the others", "fine_tuned": "alone after that"}

HOW_TO_READ = (
    "Figures are of the test split, means over the seeds, with 95% intervals from drawing the test patients "
    "again. The last column is the difference from the task alone on the same draws: an interval that holds "
    "0 shows no difference."
)


def multitask_report(results: Mapping[str, Any]) -> str:
    """How to read it; then a heading, a line and a table for each task.

    Args:
        results: What `results.json` holds.
    """
    tables = (
        f"## {task['name']}\n\n{_about(task, results['records'])}\n\n"
        f"{_table([row for row in results['table'] if row['task'] == task['name']])}\n"
        for task in results["tasks"]
    )
    return "\n".join((f"# Several tasks on one encoder\n\n{HOW_TO_READ}\n", *tables))


def _about(task: Mapping[str, Any], records: list[Mapping[str, Any]]) -> str:
    examples = task["examples"]
    seeds = len({record["seed"] for record in records})
    with_outcome = f" ({task['test_positives']:,} labels 1)" if task["test_positives"] is not None else ""
    text = (
        f"{task['kind'].capitalize()}: {examples['train']:,} training, {examples['valid']:,} validation and "
        f"{examples['test']:,} test examples{with_outcome}; means over {seeds} seed{'s' * (seeds > 1)}."
    )
    if task["kind"] == "multilabel":
        text += f" {task['outputs']:,} codes, of {task['min_positives']:,} training examples at least."
    if task["labels_of_unread_visits"]:
        text += f" {task['labels_of_unread_visits']:,} labels are of visits that histories are too long for."
    if not task["joint"]:
        text += " Not in the joint training."
    return text


def _table(rows: list[Mapping[str, Any]]) -> str:
    names = [name for name in TITLES if name in rows[0]["test"]]
    header = ["trained", *(TITLES[name] for name in names), f"{TITLES[names[0]]} over alone"]
    return markdown_table(
        header,
        [
            [
                STAGE_TITLES[row["stage"]],
                *(_cell(row["test"][name]) for name in names),
                _cell(row["over_single"][names[0]], "+") if row["over_single"] else "",
            ]
            for row in rows
        ],
    )


def _cell(interval: Mapping[str, float | None], sign: str = "") -> str:
    """A value and its interval; empty where it isn't defined."""
    value, low, high = interval["value"], interval["low"], interval["high"]
    if value is None:
        return ""
    if low is None or high is None:
        return f"{value:{sign}.3f}"
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"
