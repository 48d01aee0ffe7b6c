"""Markdown tables of multitask training: the metrics of each task after each stage."""

from collections.abc import Mapping
from typing import Any

from ehr_bert.prediction.multitask.task_type import task_type
from ehr_bert.report.markdown import markdown_table

STAGE_TITLES = {"single": "single task", "joint": "joint training", "fine_tuned": "joint, then fine-tuned"}

HOW_TO_READ = (
    "Values are means over the seeds on the test split, with 95% confidence intervals from bootstrap "
    "replicates of the test patients. The last column is the difference from the single-task model on the "
    "same replicates. If its interval contains 0, the difference is not significant."
)


def multitask_report(results: Mapping[str, Any]) -> str:
    """Return a text with a heading, a caption and a table for each task.

    Args:
        results: Content of `results.json`.
    """
    tables = (
        f"## {task['name']}\n\n{_caption(task, results['records'])}\n\n"
        f"{_table(task, [row for row in results['table'] if row['task'] == task['name']])}\n"
        for task in results["tasks"]
    )
    return "\n".join((f"# Multitask training\n\n{HOW_TO_READ}\n", *tables))


def _caption(task: Mapping[str, Any], records: list[Mapping[str, Any]]) -> str:
    examples = task["examples"]
    seeds = len({record["seed"] for record in records})
    cases = f" ({task['test_positives']:,} cases)" if task["test_positives"] is not None else ""
    sentences = [
        f"{task['kind'].capitalize()} task with {examples['train']:,} training, {examples['valid']:,} "
        f"validation and {examples['test']:,} test examples{cases}; {seeds} seed{'s' * (seeds > 1)}.",
        task_type(task["kind"]).caption(task),
    ]
    if task["labels_of_unread_visits"]:
        sentences.append(
            f"{task['labels_of_unread_visits']:,} labels belong to visits that are not read because the "
            "history is too long."
        )
    if not task["joint"]:
        sentences.append("Not part of the joint training.")
    return " ".join(filter(None, sentences))


def _table(task: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> str:
    titles = task_type(task["kind"]).titles
    keys = [key for key in titles if key in rows[0]["test"]]
    header = ["training", *(titles[key] for key in keys), f"{titles[keys[0]]} difference"]
    return markdown_table(
        header,
        [
            [
                STAGE_TITLES[row["stage"]],
                *(_cell(row["test"][key]) for key in keys),
                _cell(row["over_single"][keys[0]], "+") if row["over_single"] else "",
            ]
            for row in rows
        ],
    )


def _cell(interval: Mapping[str, float | None], sign: str = "") -> str:
    """Format a value and its interval; empty if undefined."""
    value, low, high = interval["value"], interval["low"], interval["high"]
    if value is None:
        return ""
    if low is None or high is None:
        return f"{value:{sign}.3f}"
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"
