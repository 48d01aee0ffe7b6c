"""What a cohort holds, for a person."""

from typing import Any

from ehr_bert.cohorts.audit import Finding

_LABEL_WIDTH = 72


def cohort_text(summary: dict[str, Any]) -> str:
    """A cohort's summary, a line a fact.

    Args:
        summary: As `write_cohort_folder` gives it.
    """
    splits, rejected = summary["splits"], summary.get("rows", {}).get("rejected", {})
    lines = [
        *(f"rejected: {count:,} rows, {reason}" for reason, count in rejected.items()),
        _line("who is left", "patients", "examples"),
        *(_line(f"  {step['rule']}", step["patients"], step["rows"]) for step in summary["flow"]),
        _line("", *splits),
        *(_line(name, *(split[name] for split in splits.values())) for name in ("patients", "examples")),
    ]
    for task, kind in summary["tasks"].items():
        lines.append(_line(f"{task} ({kind})", *(split["labels"][task] for split in splits.values())))
        if kind == "binary":
            lines.append(_line("  of them 1", *(split["positives"][task] for split in splits.values())))
    lines += [str(Finding(**finding)) for finding in summary["audit"]]
    return "\n".join(lines)


def _line(label: str, *values: int | str) -> str:
    """A label, and numbers or headings in columns."""
    columns = (f"{value:,}" if isinstance(value, int) else value for value in values)
    return f"{label:{_LABEL_WIDTH}}" + "".join(f"{column:>12}" for column in columns)
