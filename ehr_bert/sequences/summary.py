"""Summary of a preprocessing run: the content of `summary.json`, and as text."""

from collections import Counter
from dataclasses import asdict
from itertools import chain
from typing import Any

import ibis.expr.types as ir

from ehr_bert.codes import RollUp
from ehr_bert.codes.systems import system_of
from ehr_bert.engines import quantiles
from ehr_bert.schemas import PROLONGED_STAY_DAYS, Split, is_context
from ehr_bert.sequences.building import PatientHistories
from ehr_bert.sources.checks import unreadable_ordering_values
from ehr_bert.vocabulary import Vocabulary


def summarise_preprocessing(histories: PatientHistories, vocabulary: Vocabulary, seed: int) -> dict[str, Any]:
    """Summarise a preprocessing run. Every row of the diagnosis table is counted once.

    Returns:
        The content of `summary.json`; `docs/formats.md` documents its keys.

    Raises:
        AssertionError: The numbers of rows before and after preprocessing differ.
    """
    tally = histories.tally
    by_split = {
        row.pop("split"): row for row in histories.engine.collect(_totals(histories.table)).to_pylist()
    }
    totals = [by_split[split.value] for split in Split if split.value in by_split]
    codes = sum(total["codes"] for total in totals)
    eligible = tally.usable - tally.eligible.outside_dates - tally.eligible.of_ineligible
    assert sum(total["diagnoses"] for total in totals) == tally.sampled, "rows were lost or added"

    def counted(key: str) -> dict[str, int]:
        return {split.value: by_split.get(split.value, {}).get(key, 0) for split in Split}

    code_counts = {
        split: [count for count in histories.code_counts(split) if not is_context(count.code)]
        for split in Split
    }
    unknown = {
        split.value: sum(count.occurrences for count in counts if count.code not in vocabulary.ids)
        for split, counts in code_counts.items()
    }
    systems: Counter[str] = Counter()
    for count in chain.from_iterable(code_counts.values()):
        systems[system_of(count.code)] += count.occurrences
    lengths = histories.table.select(codes="codes", visits=histories.table.los_days.length())
    return {
        "seed": seed,
        "rows": {
            "read": tally.usable + tally.other_kinds + sum(tally.rejected.values()),
            "sequence_codes": codes,
            "merged_duplicates": tally.sampled - codes,
            "of_other_kinds": tally.other_kinds,
            "outside_dates": tally.eligible.outside_dates,
            "of_ineligible_patients": tally.eligible.of_ineligible,
            "outside_sample": eligible - tally.sampled,
            "rejected": tally.rejected,
        },
        "unreadable_ordering_values": unreadable_ordering_values(tally.unreadable),
        "unreadable_values": tally.unreadable,
        "flow": [asdict(step) for step in tally.eligible.flow],
        "roll_up": asdict(tally.roll_up),
        "rare_codes": tally.rare and tally.rare.counts,
        "patients": counted("patients"),
        "visits": counted("visits"),
        "codes": counted("codes"),
        "unknown_codes": unknown,
        "distinct_codes": sum(not is_context(code) for code in histories.codes),
        "codes_by_system": dict(sorted(systems.items())),
        "visits_a_patient": quantiles(histories.engine, lengths, "visits"),
        "codes_a_patient": quantiles(histories.engine, lengths, "codes"),
        "vocabulary_size": len(vocabulary),
        "first_admission": min(total["first_admission"] for total in totals).isoformat(),
        "last_discharge": max(total["last_discharge"] for total in totals).isoformat(),
        "prolonged_stays": sum(total["prolonged_stays"] for total in totals),
        "longest_patient": max(total["longest_patient"] for total in totals),
    }


def summary_text(summary: dict[str, Any]) -> str:
    """Return a summary as text, with one line per fact."""
    rows = summary["rows"]
    excluded = ("of_other_kinds", "outside_dates", "of_ineligible_patients", "outside_sample")
    lines = [
        _line("rows read", rows["read"]),
        _line("  codes kept", rows["sequence_codes"]),
        _line("  merged duplicates", rows["merged_duplicates"]),
        *(_line(f"  {_readable(name)}", rows[name]) for name in excluded if rows[name]),
        *(f"{_line('  rejected', count)}  {reason}" for reason, count in rows["rejected"].items()),
        *_flow_lines(summary["flow"]),
        *_recoding_lines(summary["roll_up"], summary["rare_codes"]),
        _line("", *(split.value for split in Split)),
        *(
            _line(_readable(name), *(summary[name][split.value] for split in Split))
            for name in ("patients", "visits", "codes", "unknown_codes")
        ),
        _line("quantiles", *summary["codes_a_patient"], width=9),
        *(
            _line(f"  {name} per patient", *summary[f"{name}_a_patient"].values(), width=9)
            for name in ("visits", "codes")
        ),
        *(_line(f"codes in {system}", count) for system, count in summary["codes_by_system"].items()),
        _line("distinct codes", summary["distinct_codes"]),
        _line("vocabulary size", summary["vocabulary_size"]),
        _line(f"visits longer than {PROLONGED_STAY_DAYS} days", summary["prolonged_stays"]),
        f"{'dates':{_LABEL_WIDTH}}  {summary['first_admission']} to {summary['last_discharge']}",
    ]
    lines += [
        f"unreadable {name}, treated as missing: {count:,}"
        for name, count in summary["unreadable_values"].items()
    ]
    return "\n".join(lines)


_LABEL_WIDTH = 30


def _readable(key: str) -> str:
    return key.replace("_", " ")


def _line(label: str, *values: int | str, width: int = 13) -> str:
    """Return a label, followed by numbers or headings in columns."""
    columns = (f"{value:,}" if isinstance(value, int) else value for value in values)
    return f"{label:{_LABEL_WIDTH}}" + "".join(f"{column:>{width}}" for column in columns)


def _flow_lines(flow: list[dict[str, Any]]) -> list[str]:
    if not flow:
        return []
    return [
        _line("Cohort flow", "patients", "rows"),
        *(_line(f"  {step['rule']}", step["patients"], step["rows"]) for step in flow),
    ]


def _recoding_lines(roll_up: dict[str, Any], rare: dict[str, int] | None) -> list[str]:
    lines = []
    if roll_up["to"] != RollUp.NONE:
        lines = [
            _line(f"rolled up to {roll_up['to']}", "codes", "rows"),
            _line("  not in the map, unchanged", roll_up["unmapped_codes"], roll_up["unmapped_rows"]),
        ]
    if rare:
        lines += [
            _line("rare codes", "codes", "rows"),
            _line("  replaced by a heading", rare["codes_to_heading"], rare["rows_to_heading"]),
            _line("  replaced by [UNK]", rare["codes_to_unknown"], rare["rows_to_unknown"]),
        ]
    return lines


def _totals(histories: ir.Table) -> ir.Table:
    prolonged = histories.los_days.filter(lambda days: days > PROLONGED_STAY_DAYS)
    return histories.group_by("split").aggregate(
        patients=histories.count(),
        visits=histories.los_days.length().sum(),
        codes=histories.codes.sum(),
        diagnoses=histories.diagnoses.sum(),
        prolonged_stays=prolonged.length().sum(),
        longest_patient=histories.codes.max(),
        first_admission=histories.admit_date.mins().min(),
        last_discharge=histories.discharge_date.max(),
    )
