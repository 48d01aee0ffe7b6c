"""The algorithm of the original in pandas, with which the expressions are compared."""

import pandas as pd


def reference_patient(rows: pd.DataFrame) -> dict[str, list]:
    """Return the history of one patient from its typed rows; missing ordering values are NaN."""
    keys = ["discharge_date", "present_on_admission", "third_party", "priority", "code"]
    ordered = rows.sort_values(keys, na_position="last", kind="stable")
    codes, visit_ids, admits, stays, discharges = [], [], [], [], []
    for number, (discharge, visit) in enumerate(ordered.groupby("discharge_date", sort=True), 1):
        kept = list(dict.fromkeys(visit["code"]))
        codes += kept
        visit_ids += [number] * len(kept)
        admit = min(visit["admit_date"])
        admits.append(admit)
        discharges.append(discharge)
        stays.append((discharge - admit).days)
    gaps = [(later - earlier).days for earlier, later in zip(discharges, admits[1:], strict=False)]
    return {
        "codes": codes,
        "visit_ids": visit_ids,
        "admit_date": admits,
        "los_days": stays,
        "days_to_next": [*gaps, 0],
    }


def reference(rows: pd.DataFrame) -> dict[str, dict[str, list]]:
    """Return the histories of all patients."""
    return {patient: reference_patient(group) for patient, group in rows.groupby("patient_id")}
