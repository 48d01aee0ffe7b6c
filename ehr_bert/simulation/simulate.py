"""A data set of simulated patients in a folder, written by chunks in parallel processes."""

import logging
import os
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from ehr_bert import __version__
from ehr_bert.errors import UserError
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.logs import progress_bar
from ehr_bert.processes import Processes
from ehr_bert.schemas import PROLONGED_STAY_DAYS, ObservationEndReason
from ehr_bert.simulation.auroc import BinnedRisks, RiskTotals
from ehr_bert.simulation.chunks import PopulationSettings, SimulatedPopulation
from ehr_bert.simulation.conditions import load_conditions
from ehr_bert.simulation.formats.coded import code_numbers, title_of_code
from ehr_bert.simulation.formats.parts import ChunkFiles, JoinedFiles
from ehr_bert.simulation.formats.registry import RECORD_FORMATS
from ehr_bert.simulation.formats.tutorial import tsv_options
from ehr_bert.simulation.records import SimulatedRecords
from ehr_bert.simulation.risks import OUTCOMES
from ehr_bert.simulation.states import DISEASES

TRUTH_FILE = "truth.parquet"

VERSION = 2
"""Version of the simulator, which `summary.json` states. `version1` is the package of the first one."""

logger = logging.getLogger(__name__)


def simulate(
    folder: Path, settings: PopulationSettings, record_format: str = "tsv", workers: int | None = None
) -> dict[str, Any]:
    """Simulate a data set and write its records, true risks, titles of codes and a summary, atomically.

    Args:
        folder: The folder to write.
        settings: Settings of the patients.
        record_format: Format of the records, one of `RECORD_FORMATS`.
        workers: Number of processes, by default one per CPU. The files do not depend on it.

    Returns:
        The content of `summary.json`.

    Raises:
        UserError: The format is unknown, not meant for this number of patients, or `workers` is below 1 (key
            `invalid-setting`), or `folder` is not an earlier output (`output-not-empty`).
    """
    _check(settings, record_format, workers)
    numbers = settings.chunk_numbers
    counts: Counter[str] = Counter()
    cases: Counter[str] = Counter()
    codes: set[int] = set()
    risks = RiskTotals(len(_series(settings)))
    written = RECORD_FORMATS[record_format]
    with atomic_folder(folder, "simulate") as temporary:
        tasks = [_Task(settings, record_format, ChunkFiles(temporary, number)) for number in numbers]
        run = Processes(workers or os.cpu_count() or 1)
        with (
            JoinedFiles(temporary) as joined,
            progress_bar(
                logger, desc="simulate", total=settings.patients, unit=" patients", unit_scale=True
            ) as progress,
        ):
            for number, chunk in zip(numbers, run(_write_chunk, tasks), strict=True):
                joined.add(number)
                counts.update(chunk.counts)
                cases.update(chunk.cases)
                codes.update(chunk.codes.tolist())
                risks.add(chunk.risks)
                progress.update(chunk.counts["patients"])
        names = [load_conditions().codes[number] for number in sorted(codes)]
        written.finish(temporary, names)
        _write_codes(temporary / "codes.tsv", sorted(codes))
        summary = {
            "version": __version__,
            "simulator": VERSION,
            "settings": settings.to_dict() | {"format": record_format},
            **{name: count for name, count in counts.items() if name != "prolonged_stays"},
            "prolonged_stays": round(counts["prolonged_stays"] / counts["visits"], 4),
            "codes": len(codes),
            "cases": {name: cases[name] for name in DISEASES},
            "risks": _risk_summary(settings, risks),
        }
        write_json(temporary / SUMMARY_FILE, summary)
    return summary


def _check(settings: PopulationSettings, record_format: str, workers: int | None) -> None:
    if record_format not in RECORD_FORMATS:
        raise UserError(
            "invalid-setting", f"format must be one of {', '.join(RECORD_FORMATS)}, not {record_format!r}."
        )
    most = RECORD_FORMATS[record_format].most_patients
    if most is not None and settings.patients > most:
        raise UserError(
            "invalid-setting",
            f"the format {record_format} is for at most {most:,} patients, not {settings.patients:,}. "
            "Simulate fewer patients or choose another format.",
        )
    if workers is not None and workers < 1:
        raise UserError("invalid-setting", f"workers must be 1 or more, not {workers}.")


@dataclass(frozen=True)
class _Task:
    """One chunk of patients to simulate and write."""

    settings: PopulationSettings
    record_format: str
    files: ChunkFiles


@dataclass(frozen=True)
class _WrittenChunk:
    """What the summary needs of a chunk.

    Attributes:
        counts: Numbers by key of the summary.
        cases: Number of patients with each disease on record.
        codes: Codes that occur, by position in `Conditions.codes`.
        risks: True risks by series, as `_series` orders them.
    """

    counts: dict[str, int]
    cases: dict[str, int]
    codes: np.ndarray
    risks: BinnedRisks


_population = lru_cache(maxsize=1)(SimulatedPopulation)


def _write_chunk(task: _Task) -> _WrittenChunk:
    """Simulate and write a chunk in another process, and return only sums."""
    chunk = _population(task.settings).chunk(task.files.number)
    records = chunk.records
    RECORD_FORMATS[task.record_format].write(records, task.files)
    task.files.write_part(TRUTH_FILE, chunk.truth)
    code = code_numbers(records.events["code"])
    return _WrittenChunk(
        counts=_counts(records),
        cases=_cases(records, code),
        codes=np.unique(code),
        risks=BinnedRisks.of(_series_of(task.settings, chunk.truth), chunk.truth["risk"].to_numpy()),
    )


def _counts(records: SimulatedRecords) -> dict[str, int]:
    patients, visits = records.patients, records.visits
    days = pc.days_between(visits["admitted"], visits["discharged"])
    left = pc.equal(patients["observation_end_reason"], ObservationEndReason.ENROLMENT.value)
    return {
        "patients": patients.num_rows,
        "visits": visits.num_rows,
        "events": records.events.num_rows,
        "deaths": patients.num_rows - patients["death_date"].null_count,
        "leavers": pc.sum(left).as_py(),
        "prolonged_stays": pc.sum(pc.greater(days, PROLONGED_STAY_DAYS)).as_py(),
    }


def _cases(records: SimulatedRecords, code: np.ndarray) -> dict[str, int]:
    """Return the number of patients with each disease on record."""
    disease = _disease_of_codes()[code]
    is_disease = disease >= 0
    patient = pc.index_in(records.events["patient_id"], records.patients["patient_id"]).to_numpy()
    pairs = np.unique(patient[is_disease].astype(np.int64) * len(DISEASES) + disease[is_disease])
    counts = np.bincount(pairs % len(DISEASES), minlength=len(DISEASES))
    return dict(zip(DISEASES, counts.tolist(), strict=True))


@lru_cache(maxsize=1)
def _disease_of_codes() -> np.ndarray:
    """Return the position in `DISEASES` of each of `Conditions.codes`, -1 for codes of other families."""
    conditions = load_conditions()
    disease = np.full(len(conditions.codes), -1)
    for place, name in enumerate(DISEASES):
        for system in conditions.members:
            disease[system[conditions.numbers[name]]] = place
    return disease


def _series(settings: PopulationSettings) -> list[tuple[str, str, int]]:
    """Return landmark, outcome and horizon of each series of risks."""
    return [
        (day.isoformat(), outcome, horizon)
        for day in settings.landmarks
        for outcome in OUTCOMES
        for horizon in settings.horizons
    ]


def _series_of(settings: PopulationSettings, truth: pa.Table) -> np.ndarray:
    """Return the series of each row of `TRUTH`: int64 `[N]`."""
    keys = (
        ("landmark", pa.array(settings.landmarks, pa.date32())),
        ("outcome", pa.array(OUTCOMES)),
        ("horizon_days", pa.array(settings.horizons, pa.int32())),
    )
    series = np.zeros(truth.num_rows, np.int64)
    for name, values in keys:
        series = series * len(values) + pc.index_in(truth[name], values).to_numpy()
    return series


def _risk_summary(settings: PopulationSettings, risks: RiskTotals) -> list[dict[str, Any]]:
    rows = []
    for number, (landmark, outcome, horizon) in enumerate(_series(settings)):
        patients, mean, area = risks.figures(number)
        rows.append(
            {
                "landmark": landmark,
                "outcome": outcome,
                "horizon_days": horizon,
                "patients": patients,
                "mean_risk": None if mean is None else round(mean, 5),
                "best_auroc": None if area is None else round(area, 4),
            }
        )
    return rows


def _write_codes(path: Path, numbers: list[int]) -> None:
    """Write code, title and family of codes."""
    conditions = load_conditions()
    family = np.empty(len(conditions.codes), object)
    for system in conditions.members:
        for condition, members in zip(conditions.families, system, strict=True):
            family[members] = condition.name
    codes = [conditions.codes[number] for number in numbers]
    columns = {
        "code": codes,
        "title": [title_of_code(code) for code in codes],
        "family": [family[number] for number in numbers],
    }
    csv.write_csv(pa.table(columns), path, tsv_options())
