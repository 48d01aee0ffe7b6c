"""The diagnosis table of the Med-BERT tutorial as TSV."""

from pyarrow import csv

from ehr_bert.schemas import DIAGNOSES
from ehr_bert.simulation.formats.parts import ChunkFiles
from ehr_bert.simulation.formats.record_format import RecordFormat
from ehr_bert.simulation.records import SimulatedRecords

TUTORIAL_FILE = "data_file.tsv"

TUTORIAL_COLUMNS = ["patient_id", "vadate", "vddate", "diag", "poa", "diagnosis_priority", "third_party_ind"]
"""The Med-BERT tutorial's names for the columns of `DIAGNOSES`."""


def tsv_options(header: bool = True) -> csv.WriteOptions:
    """Return the options of `pyarrow.csv` for TSV without quotes."""
    return csv.WriteOptions(
        include_header=header, delimiter="\t", quoting_style="none", quoting_header="none"
    )


def _write(records: SimulatedRecords, files: ChunkFiles) -> None:
    rows = records.events.select(DIAGNOSES.names).rename_columns(TUTORIAL_COLUMNS)
    csv.write_csv(rows, files.text_part(TUTORIAL_FILE), tsv_options(header=files.number == 0))
    files.write_part("patients.parquet", records.patients)


TUTORIAL_FORMAT = RecordFormat(title="the TSV of the Med-BERT tutorial, and patients.parquet", write=_write)
