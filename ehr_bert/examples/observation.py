"""Days from the last visit of a window to the end of observation and to the death of its patient.

Legend: N patients, K visits of all patients, W windows.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ehr_bert.errors import UserError

DAYS_TO = {"days_to_observation_end": "observation_end", "days_to_death": "death_date"}
"""Names of the stored features, each with the column of `schemas.SEQUENCES` that has the date."""

UNKNOWN_DAYS = -1
"""Value of a feature if the date is unknown."""


def states_observation(files: Iterable[Path]) -> bool:
    """Return whether sequences contain any end of observation or date of death.

    Args:
        files: Parquet files of `schemas.SEQUENCES`. In files of version 0.1 these columns are missing.

    Raises:
        UserError: A file cannot be read (key `invalid-parquet`).
    """
    return any(map(_states_observation, files))


def _states_observation(file: Path) -> bool:
    try:
        stored = pq.ParquetFile(file)
        columns = [name for name in DAYS_TO.values() if name in stored.schema_arrow.names]
        return any(
            column.null_count < len(column)
            for batch in stored.iter_batches(columns=columns)
            for column in batch.columns
        )
    except (pa.ArrowException, OSError) as error:
        raise UserError("invalid-parquet", f"{file} cannot be read as Parquet: {error}.") from error


def days_after(batch: pa.RecordBatch, last_visits: np.ndarray) -> dict[str, np.ndarray]:
    """Return the features of `DAYS_TO` of windows.

    Days count from the discharge of the last visit in the window, so for each part of a divided patient they
    count from another day. A date before that day gives 0, as for a visit that was recorded after the end of
    observation. Without a date, or without the day of the visit, the value is `UNKNOWN_DAYS`.

    Args:
        batch: Patients with the columns `admit_date` and `los_days` of `schemas.SEQUENCES`, and those of the
            dates, which may be missing.
        last_visits: `Windows.last_visits`, int64 `[W]`.

    Returns:
        int64 `[W]` by name.
    """
    admit_date, los_days = (batch.column(name) for name in ("admit_date", "los_days"))
    patient = np.repeat(
        np.arange(batch.num_rows), los_days.value_lengths().to_numpy(zero_copy_only=False)
    )  # [K]
    stays = los_days.flatten().to_numpy()[last_visits].astype("timedelta64[D]")
    discharges = _days(admit_date.flatten())[last_visits] + stays  # [W]

    def days_to(column: str) -> np.ndarray:
        if column not in batch.schema.names:
            return np.full(len(last_visits), UNKNOWN_DAYS, np.int64)
        days = _days(batch.column(column))[patient[last_visits]] - discharges  # [W]
        return np.where(np.isnat(days), UNKNOWN_DAYS, np.maximum(days.astype(np.int64), 0))

    return {name: days_to(column) for name, column in DAYS_TO.items()}


def _days(dates: pa.Array) -> np.ndarray:
    """Return dates as datetime64[D], NaT for null."""
    return dates.to_numpy(zero_copy_only=False).astype("datetime64[D]")
