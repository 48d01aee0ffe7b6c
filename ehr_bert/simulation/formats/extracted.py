"""The folder that `ehr-bert extract` writes, in Parquet."""

from ehr_bert.schemas import EVENTS
from ehr_bert.simulation.formats.parts import ChunkFiles
from ehr_bert.simulation.formats.record_format import RecordFormat
from ehr_bert.simulation.records import SimulatedRecords


def _write(records: SimulatedRecords, files: ChunkFiles) -> None:
    files.write_table("events", records.events.select(EVENTS.names))
    files.write_part("patients.parquet", records.patients)


EXTRACTED_FORMAT = RecordFormat(title="events/ and patients.parquet of an extracted folder", write=_write)
