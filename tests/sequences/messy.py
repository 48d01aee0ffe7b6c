"""Diagnosis tables with overlapping stays, duplicates, missing values and ties."""

from pathlib import Path

import numpy as np
import pandas as pd

HEADER = "patient\tadmitted\tdischarged\tdiagnosis\tpoa\tpriority\tthird_party\n"


def messy_rows(patients: int, seed: int) -> pd.DataFrame:
    """Return typed, usable rows in random order, about 9 per patient."""
    generator = np.random.default_rng(seed)
    count = patients * 9
    discharge = pd.Timestamp("2014-01-01") + pd.to_timedelta(generator.integers(0, 25, count) * 40, unit="D")
    stay = pd.to_timedelta(generator.integers(0, 60, count), unit="D")

    def some(values: list[float | None]) -> np.ndarray:
        return generator.choice(np.array(values, dtype=float), count)

    rows = pd.DataFrame(
        {
            "patient_id": generator.integers(0, patients, count).astype(str),
            "admit_date": (discharge - stay).date,
            "discharge_date": discharge.date,
            "code": [f"ICD9_{code}" for code in generator.integers(0, 30, count)],
            "present_on_admission": some([1, 2, -1, None]),
            "priority": some([0, 1, 2, 70_000, None]),
            "third_party": some([0, 1, None]),
        }
    )
    return pd.concat([rows, rows.sample(frac=0.1, random_state=seed)]).sample(frac=1, random_state=seed)


def tutorial_lines(rows: pd.DataFrame) -> list[str]:
    """Return the rows as lines of the tutorial's table."""
    ordering = rows[["present_on_admission", "priority", "third_party"]].map(
        lambda value: "" if pd.isna(value) else str(int(value))
    )
    columns = [rows["patient_id"], rows["admit_date"], rows["discharge_date"], rows["code"]]
    return [
        "\t".join(map(str, fields)) + "\n"
        for fields in zip(*columns, *(ordering[name] for name in ordering), strict=True)
    ]


def write_tutorial_table(path: Path, rows: pd.DataFrame) -> Path:
    """Write the rows as the tutorial's table."""
    path.write_text(HEADER + "".join(tutorial_lines(rows)))
    return path
