"""The summary of a cohort as text."""

from typing import Any

from ehr_bert.cohorts.findings import Finding

_LABEL_WIDTH = 72


def cohort_text(summary: dict[str, Any]) -> str:
    """Return the cohort flow, the counts by split, and the leakage audit as text.

    Args:
        summary: The result of `write_cohort_folder` or `write_pickled_cohort`.
    """
    splits, rows = summary["splits"], summary.get("rows", {})
    lines = [
        *(f"rejected: {count:,} rows, {reason}" for reason, count in rows.get("rejected", {}).items()),
        *([f"of other kinds: {rows['of_other_kinds']:,} rows"] if rows.get("of_other_kinds") else []),
        _line("Cohort flow", "patients", "examples"),
        *(_line(f"  {step['rule']}", step["patients"], step["rows"]) for step in summary["flow"]),
        _line("Splits", *splits),
        *(
            _line(f"  {name}", *(split[name] for split in splits.values()))
            for name in ("patients", "examples")
        ),
    ]
    for task, kind in summary["tasks"].items():
        lines.append(_line(f"  {task} ({kind})", *(split["labels"][task] for split in splits.values())))
        if kind == "binary":
            lines.append(_line("    cases", *(split["positives"][task] for split in splits.values())))
    lines += ["Leakage audit", *(f"  {Finding.from_dict(finding)}" for finding in summary["audit"])]
    return "\n".join(lines)


def _line(label: str, *values: int | str) -> str:
    """Return a label with numbers or headings in columns."""
    columns = (f"{value:,}" if isinstance(value, int) else value for value in values)
    return f"{label:{_LABEL_WIDTH}}" + "".join(f"{column:>12}" for column in columns)
