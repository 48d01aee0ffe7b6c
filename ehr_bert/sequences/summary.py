"""What a run did, in numbers: for `summary.json`, and for a person."""

from typing import Any

import ibis.expr.types as ir

from ehr_bert.schemas import PROLONGED_STAY_DAYS, Split
from ehr_bert.sequences.building import PatientHistories
from ehr_bert.vocabulary import Vocabulary


def summarise(histories: PatientHistories, vocabulary: Vocabulary, seed: int) -> dict[str, Any]:
    """The numbers of a run; every row of the table is accounted for.

    Returns:
        What `summary.json` holds; `docs/formats.md` tells its keys.

    Raises:
        AssertionError: rows were lost or made up on the way.
    """
    tally = histories.tally
    by_split = {
        row.pop("split"): row for row in histories.engine.collect(_totals(histories.table)).to_pylist()
    }
    totals = [by_split[split.value] for split in Split if split.value in by_split]
    codes = sum(total["codes"] for total in totals)
    assert sum(total["diagnoses"] for total in totals) == tally.sampled, "rows were lost or made up"

    def counted(key: str) -> dict[str, int]:
        return {split.value: by_split.get(split.value, {}).get(key, 0) for split in Split}

    unknown = {
        split.value: sum(
            count.occurrences for count in histories.code_counts(split) if count.code not in vocabulary.ids
        )
        for split in Split
    }
    return {
        "seed": seed,
        "rows": {
            "read": tally.usable + sum(tally.rejected.values()),
            "sequence_codes": codes,
            "merged_duplicates": tally.sampled - codes,
            "outside_sample": tally.usable - tally.sampled,
            "rejected": tally.rejected,
        },
        "unreadable_ordering_values": tally.unreadable,
        "patients": counted("patients"),
        "visits": counted("visits"),
        "codes": counted("codes"),
        "unknown_codes": unknown,
        "distinct_codes": len(histories.codes),
        "vocabulary_size": len(vocabulary),
        "first_admission": min(total["first_admission"] for total in totals).isoformat(),
        "last_discharge": max(total["last_discharge"] for total in totals).isoformat(),
        "prolonged_stays": sum(total["prolonged_stays"] for total in totals),
        "longest_patient": max(total["longest_patient"] for total in totals),
    }


def summary_text(summary: dict[str, Any]) -> str:
    """A summary for a person, a line a fact."""
    rows = summary["rows"]
    lines = [
        f"rows read           {rows['read']:>14,}",
        f"  codes kept        {rows['sequence_codes']:>14,}",
        f"  duplicates merged {rows['merged_duplicates']:>14,}",
        *([f"  outside sample    {rows['outside_sample']:>14,}"] if rows["outside_sample"] else []),
        *(f"  rejected          {count:>14,}  {reason}" for reason, count in rows["rejected"].items()),
        f"{'':20}" + "".join(f"{split.value:>14}" for split in Split),
        *(
            f"{name.replace('_', ' '):20}" + "".join(f"{summary[name][split.value]:>14,}" for split in Split)
            for name in ("patients", "visits", "codes", "unknown_codes")
        ),
        f"distinct codes      {summary['distinct_codes']:>14,}",
        f"vocabulary          {summary['vocabulary_size']:>14,}",
        f"stays over {PROLONGED_STAY_DAYS} days  {summary['prolonged_stays']:>14,}",
        f"longest patient     {summary['longest_patient']:>14,} codes",
        f"dates               {summary['first_admission']} to {summary['last_discharge']}",
    ]
    if summary["unreadable_ordering_values"]:
        lines.append(f"ordering values taken as missing: {summary['unreadable_ordering_values']:,}")
    return "\n".join(lines)


def _totals(histories: ir.Table) -> ir.Table:
    prolonged = histories.los_days.filter(lambda days: days > PROLONGED_STAY_DAYS)
    return histories.group_by("split").aggregate(
        patients=histories.count(),
        visits=histories.los_days.length().sum(),
        codes=histories.code_ranks.length().sum(),
        diagnoses=histories.diagnoses.sum(),
        prolonged_stays=prolonged.length().sum(),
        longest_patient=histories.code_ranks.length().max(),
        first_admission=histories.admit_date.mins().min(),
        last_discharge=histories.discharge_date.max(),
    )
