"""Summary of an extraction, as `summary.json` and as text."""

from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import Any

import ibis.expr.types as ir
from ibis import _

from ehr_bert.codes.systems import system_of
from ehr_bert.engines import Engine, quantiles
from ehr_bert.schemas import PROLONGED_STAY_DAYS, EventKind
from ehr_bert.sources.checks import unreadable_ordering_values


@dataclass(frozen=True)
class Tally:
    """Counts of the diagnoses of a store.

    Attributes:
        read: Number of rows.
        usable: Number of usable rows.
        rejected: Number of rejected rows by reason.
        unreadable: Number of unreadable values of usable rows, which are treated as missing, by column.
        one_day_visits: Number of usable rows without a visit id, which became one-day visits.
        nested: Number of usable rows whose visit was given the days of the enclosing visit.
    """

    read: int
    usable: int
    rejected: dict[str, int]
    unreadable: dict[str, int]
    one_day_visits: int
    nested: int


def summarise_extraction(
    engine: Engine,
    events: ir.Table,
    patients: ir.Table,
    splits: ir.Table | None,
    tally: Tally,
    extraction_date: date | None = None,
) -> dict[str, Any]:
    """Summarise an extraction. Every row of the store is accounted for.

    Args:
        engine: Engine of the computation.
        events: `EVENTS`, as written.
        patients: Patients, as `patient_rows` returns them.
        splits: `SPLITS`, if the store defines them.
        tally: Counts of the rows of the store.
        extraction_date: Last day that the store covers, if it is given.

    Returns:
        The contents of `summary.json`; `docs/stores.md` describes its keys.

    Raises:
        AssertionError: The numbers of rows do not add up.
    """
    totals = _one(
        engine,
        events.aggregate(
            rows=events.count(),
            dated=events.date.count(),
            timed=events.time.count(),
            codes=events.code.nunique(),
            first=events.admit_date.min(),
            last=events.discharge_date.max(),
        ),
    )
    merged = tally.usable - totals["rows"]
    accounted = totals["rows"] + merged + sum(tally.rejected.values())
    assert accounted == tally.read, f"{tally.read} rows read, {accounted} accounted for"
    assert merged >= 0, "more rows were written than read"
    visits = events.group_by("patient_id", "discharge_date").aggregate(admit_date=events.admit_date.min())
    stay_days = visits.discharge_date.delta(visits.admit_date, unit="day")
    people = _one(engine, patients.aggregate(rows=patients.count(), conflicts=patients.conflicts.sum()))
    codes = events.select("patient_id", "discharge_date", "code").distinct()
    visits_a_patient, codes_a_patient = (
        rows.group_by("patient_id").aggregate(size=rows.count()) for rows in (visits, codes)
    )
    sizes = _one(engine, visits_a_patient.aggregate(patients=_.count(), visits=_.size.sum()))
    summary = {
        "rows": {
            "read": tally.read,
            "kept": totals["rows"],
            "merged_duplicates": merged,
            "rejected": tally.rejected,
        },
        "rows_by_kind": _by_kind(engine, events),
        "rows_with_date": totals["dated"],
        "rows_with_time": totals["timed"],
        "one_day_visits_without_visit": tally.one_day_visits,
        "rows_of_nested_visits": tally.nested,
        "unreadable_ordering_values": unreadable_ordering_values(tally.unreadable),
        "unreadable_values": tally.unreadable,
        "patients": {
            "in_store": people["rows"],
            "with_diagnoses": sizes["patients"],
            "conflicting_values": people["conflicts"] or 0,
        },
        "visits": sizes["visits"],
        "distinct_codes": totals["codes"],
        "rows_by_system": _by_system(engine, events),
        "visits_a_patient": quantiles(engine, visits_a_patient, "size"),
        "codes_a_patient": quantiles(engine, codes_a_patient, "size"),
        "first_admission": totals["first"].isoformat(),
        "last_discharge": totals["last"].isoformat(),
        "prolonged_stays": _one(engine, visits.aggregate(n=(stay_days > PROLONGED_STAY_DAYS).sum()))["n"],
    }
    if extraction_date is not None:
        late = visits.filter(visits.discharge_date > extraction_date)
        summary["extraction_date"] = extraction_date.isoformat()
        summary["visits_after_extraction_date"] = _one(engine, late.aggregate(n=late.count()))["n"]
    if splits is not None:
        sizes = engine.collect(splits.group_by("split").aggregate(rows=splits.count()).order_by("split"))
        summary["splits"] = {row["split"]: row["rows"] for row in sizes.to_pylist()}
    return summary


def extraction_text(summary: dict[str, Any]) -> str:
    """Return a summary as text, with one figure per line."""
    rows, patients = summary["rows"], summary["patients"]

    def line(name: str, value: int, note: str = "") -> str:
        return f"{name:28}{value:>14,}  {note}".rstrip()

    lines = [
        line("rows read", rows["read"]),
        line("  kept", rows["kept"]),
        *(line(f"    {kind}", count) for kind, count in summary["rows_by_kind"].items()),
        line("    with a day of their own", summary["rows_with_date"]),
        line("    with a time", summary["rows_with_time"]),
        line("  merged duplicates", rows["merged_duplicates"]),
        *(line("  rejected", count, reason) for reason, count in rows["rejected"].items()),
        line("patients", patients["with_diagnoses"], f"of {patients['in_store']:,} in the store"),
        line("visits", summary["visits"]),
        line(f"  longer than {PROLONGED_STAY_DAYS} days", summary["prolonged_stays"]),
        line("distinct codes", summary["distinct_codes"]),
        *(line(f"  rows in {system}", count) for system, count in summary["rows_by_system"].items()),
        f"{'':28}" + "".join(f"{name:>9}" for name in summary["visits_a_patient"]),
        *(
            f"{title:28}" + "".join(f"{value:>9,}" for value in summary[key].values())
            for key, title in (
                ("visits_a_patient", "visits per patient"),
                ("codes_a_patient", "codes per patient"),
            )
        ),
        f"dates                       {summary['first_admission']} to {summary['last_discharge']}",
    ]
    notes = {
        "one-day visits added": summary["one_day_visits_without_visit"],
        "rows of nested visits": summary["rows_of_nested_visits"],
        **{f"unreadable {name}": count for name, count in summary["unreadable_values"].items()},
        "conflicting patient values": patients["conflicting_values"],
        "visits after extraction date": summary.get("visits_after_extraction_date", 0),
    }
    lines += [line(name, count) for name, count in notes.items() if count]
    lines += [line(f"patients in {split}", count) for split, count in summary.get("splits", {}).items()]
    return "\n".join(lines)


def _one(engine: Engine, table: ir.Table) -> dict[str, Any]:
    return engine.collect(table).to_pylist()[0]


def _by_kind(engine: Engine, events: ir.Table) -> dict[str, int]:
    kinds = engine.collect(events.group_by("kind").aggregate(rows=events.count()))
    counts = {row["kind"]: row["rows"] for row in kinds.to_pylist()}
    return {kind.value: counts[kind.value] for kind in EventKind if kind.value in counts}


def _by_system(engine: Engine, events: ir.Table) -> dict[str, int]:
    codes = events.group_by("code").aggregate(rows=events.count())
    counts: Counter[str] = Counter()
    for row in engine.collect(codes).to_pylist():
        counts[system_of(row["code"])] += row["rows"]
    return dict(sorted(counts.items()))
