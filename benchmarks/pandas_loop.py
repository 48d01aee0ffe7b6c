"""The common way to create patient sequences: a loop over patients in pandas, with an inner loop over visits.

    python benchmarks/pandas_loop.py TABLE OUT PATIENTS

Creates the sequences of the first PATIENTS of the tutorial's table and pickles them. Prints JSON.
"""

import json
import pickle
import sys
import time
from datetime import datetime
from pathlib import Path

import pandas as pd

COLUMNS = ["patient", "admitted", "discharged", "code", "present_on_admission", "priority", "third_party"]


def days(earlier: str, later: str) -> int:
    """Return the number of days between two dates."""
    return (datetime.strptime(later, "%Y-%m-%d") - datetime.strptime(earlier, "%Y-%m-%d")).days


def sequence(rows: pd.DataFrame, types: dict[str, int]) -> list[list[int]]:
    """Return the stays, gaps, codes and visits of one patient."""
    stays, gaps, codes, visits = [], [], [], []
    last_discharge = None
    for number, (discharged, visit) in enumerate(rows.groupby("discharged"), 1):
        ordered = visit.sort_values(["present_on_admission", "third_party", "priority", "code"])
        admitted = min(ordered["admitted"])
        stays.append(days(admitted, discharged))
        if last_discharge is not None:
            gaps.append(days(last_discharge, admitted))
        last_discharge = discharged
        for code in ordered["code"].drop_duplicates():
            codes.append(types.setdefault(code, len(types) + 1))
            visits.append(number)
    return [stays, [*gaps, 0], codes, visits]


def main() -> None:
    """Run the loop. The time to read the table is not counted."""
    table, out, patients = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    rows = pd.read_csv(table, sep="\t", names=COLUMNS, header=0, dtype={"patient": str}, nrows=200 * patients)
    rows = rows[rows["patient"].isin(rows["patient"].unique()[:patients])]
    start = time.perf_counter()
    types: dict[str, int] = {}
    sequences = [[patient, *sequence(group, types)] for patient, group in rows.groupby("patient")]
    out.write_bytes(pickle.dumps(sequences))
    print(json.dumps({"rows": len(rows), "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
