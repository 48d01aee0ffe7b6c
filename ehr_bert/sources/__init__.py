"""Diagnosis tables from where they are kept, checked row by row."""

from pathlib import Path

from ehr_bert.engines import Engine
from ehr_bert.errors import UserError
from ehr_bert.sources.checks import Diagnoses
from ehr_bert.sources.extraction import DIAGNOSES_FOLDER, read_extracted_folder
from ehr_bert.sources.parquet import read_diagnosis_parquet
from ehr_bert.sources.tutorial import read_tutorial_table

__all__ = ["Diagnoses", "read_diagnoses", "read_diagnosis_parquet", "read_tutorial_table"]


def read_diagnoses(engine: Engine, path: Path) -> Diagnoses:
    """Reads a diagnosis table.

    That is Parquet if `path` ends in `.parquet` or is a folder, which may be an extracted one; else the
    tutorial's TSV.

    Raises:
        UserError: the table is missing, or isn't a diagnosis table.
    """
    if not path.exists():
        raise UserError(f"{path} doesn't exist: name the diagnosis table")
    if (path / DIAGNOSES_FOLDER).is_dir():
        return read_extracted_folder(engine, path)
    if path.is_dir() or path.suffix == ".parquet":
        return read_diagnosis_parquet(engine, path)
    return read_tutorial_table(engine, path)
