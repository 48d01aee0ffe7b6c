"""Simulation of a dataset in a folder, by chunks of patients."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv
from tqdm import tqdm

from ehr_bert import __version__
from ehr_bert.errors import UserError
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.schemas import DIAGNOSES, PROLONGED_STAY_DAYS
from ehr_bert.simulation.auroc import rank_auroc
from ehr_bert.simulation.coding import site_coding
from ehr_bert.simulation.conditions import load_conditions
from ehr_bert.simulation.formats.tutorial import TUTORIAL_COLUMNS, TUTORIAL_FILE, tsv_options
from ehr_bert.simulation.version1.coding import diagnoses
from ehr_bert.simulation.version1.histories import simulate_histories
from ehr_bert.simulation.version1.outcome import add_outcome

_CHUNK_PATIENTS = 5000
"""Number of patients that are simulated at a time, with one random generator per chunk."""

_FORMATS = ("tsv", "parquet")
"""Formats of the diagnosis table."""

SIMULATED_COHORT = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("index_date", pa.date32(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("risk", pa.float64(), nullable=False),
    ]
)
"""One row per patient with an index date: whether the outcome came within the horizon, and its probability,
from what was recorded up to that date."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version1Settings:
    """Settings of a simulated dataset.

    Attributes:
        patients: Number of patients. With the same seed, a smaller dataset has the first patients of a larger
            one.
        visits: Mean number of visits per patient.
        seed: Random seed.
        format: `tsv`, the format of the Med-BERT tutorial, or `parquet`.

    Raises:
        UserError: A setting is out of range (key `invalid-setting`).
    """

    patients: int = 10_000
    visits: float = 20.0
    seed: int = 0
    format: str = "tsv"

    def __post_init__(self) -> None:
        for key, minimum in (("patients", 1), ("visits", 1), ("seed", 0)):
            if getattr(self, key) < minimum:
                raise UserError(
                    "invalid-setting", f"{key} must be {minimum} or more, not {getattr(self, key)}."
                )
        if self.format not in _FORMATS:
            raise UserError(
                "invalid-setting", f"format must be {' or '.join(_FORMATS)}, not {self.format!r}."
            )


@dataclass(frozen=True)
class Chunk:
    """The data of some patients.

    Attributes:
        rows: Diagnosis rows, as `DIAGNOSES`.
        cohort: Cohort, as `SIMULATED_COHORT`.
        visits: Number of visits.
        prolonged_stays: Number of visits that are prolonged stays.
    """

    rows: pa.Table
    cohort: pa.Table
    visits: int
    prolonged_stays: int


def simulate_version1(folder: Path, settings: Version1Settings) -> dict[str, Any]:
    """Simulate a dataset and write diagnoses, cohort, titles of codes and a summary to a folder, atomically.

    Args:
        folder: The folder to write.
        settings: Settings of the dataset.

    Returns:
        The content of `summary.json`.

    Raises:
        UserError: `folder` is not an earlier output (key `output-not-empty`).
    """
    cohorts: list[pa.Table] = []
    codes: set[str] = set()
    rows = visits = prolonged = 0
    with atomic_folder(folder, "simulate") as temporary:
        with _diagnosis_writer(temporary, settings.format) as write:
            for chunk in chunks(settings):
                write(chunk.rows)
                cohorts.append(chunk.cohort)
                codes.update(chunk.rows["code"].unique().to_pylist())
                rows += chunk.rows.num_rows
                visits += chunk.visits
                prolonged += chunk.prolonged_stays
        cohort = pa.concat_tables(cohorts)
        _write_table(cohort, temporary / f"cohort.{settings.format}")
        conditions = load_conditions()
        titles = {
            code: title
            for code, title in zip(conditions.codes, conditions.titles, strict=True)
            if code in codes
        }
        _write_table(
            pa.table([list(titles), list(titles.values())], ["code", "title"]), temporary / "codes.tsv"
        )
        summary = {
            "version": __version__,
            "settings": asdict(settings),
            "visits": visits,
            "prolonged_stays": round(prolonged / visits, 4),
            "rows": rows,
            "codes": len(codes),
            "cohort": {
                "outcome": conditions.outcome.condition,
                "horizon_days": conditions.outcome.horizon_days,
                **_cohort_summary(cohort["risk"].to_numpy(), cohort["label"].to_numpy()),
            },
        }
        write_json(temporary / SUMMARY_FILE, summary)
    return summary


def chunks(settings: Version1Settings) -> Iterator[Chunk]:
    """Simulate the patients in order. A chunk depends only on the seed, the mean number of visits and its
    number.
    """
    conditions = load_conditions()
    coding = site_coding(conditions, _generator(settings.seed))
    with tqdm(
        total=settings.patients,
        desc="simulate",
        unit=" patients",
        unit_scale=True,
        disable=not logger.isEnabledFor(logging.INFO),
    ) as progress:
        for number in range(-(-settings.patients // _CHUNK_PATIENTS)):
            rng = _generator(settings.seed, number)
            histories = simulate_histories(conditions, _CHUNK_PATIENTS, settings.visits, rng)
            histories, cohort = add_outcome(conditions, histories, rng)
            # The last chunk has all its patients too, so that they do not depend on the number to keep.
            before = number * _CHUNK_PATIENTS
            kept = min(_CHUNK_PATIENTS, settings.patients - before)
            stays = histories.stay[histories.patient < kept]
            members = cohort.patient < kept
            yield Chunk(
                rows=diagnoses(conditions, coding, histories, before + 1, kept, rng),
                cohort=pa.table(
                    [
                        pa.array(before + 1 + cohort.patient[members]).cast(pa.string()),
                        pa.array(cohort.index_date[members].astype("datetime64[D]")),
                        pa.array(cohort.label[members].astype(np.int32)),
                        pa.array(cohort.risk[members].round(6)),
                    ],
                    schema=SIMULATED_COHORT,
                ),
                visits=len(stays),
                prolonged_stays=int((stays > PROLONGED_STAY_DAYS).sum()),
            )
            progress.update(kept)


def _generator(seed: int, *chunk: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=chunk))


def _cohort_summary(risk: np.ndarray, label: np.ndarray) -> dict[str, float | None]:
    """Return the counts of a cohort, and the AUROC of the true risk for the drawn labels and as expected."""
    areas = {"best_auroc": rank_auroc(risk, label), "expected_best_auroc": rank_auroc(risk, risk)}
    return {
        "patients": len(label),
        "cases": int(label.sum()),
        "prevalence": round(float(label.mean()), 4) if len(label) else None,
        **{name: None if area is None else round(area, 4) for name, area in areas.items()},
    }


@contextmanager
def _diagnosis_writer(folder: Path, file_format: str) -> Iterator[Callable[[pa.Table], None]]:
    """Yield a function that adds rows to `data_file.tsv`, or as one more file to `diagnoses/`."""
    if file_format == "tsv":
        fields = zip(TUTORIAL_COLUMNS, DIAGNOSES.types, strict=True)
        with csv.CSVWriter(folder / TUTORIAL_FILE, pa.schema(fields), write_options=tsv_options()) as file:
            yield lambda rows: file.write_table(rows.rename_columns(TUTORIAL_COLUMNS))
    else:
        (folder / "diagnoses").mkdir()
        paths = (folder / "diagnoses" / f"{number:05d}.parquet" for number in count())
        yield lambda rows: pq.write_table(rows, next(paths))


def _write_table(table: pa.Table, path: Path) -> None:
    """Write Parquet or TSV, by the suffix of the path."""
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        csv.write_csv(table, path, tsv_options())
