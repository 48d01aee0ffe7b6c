"""All formats of simulated records."""

from ehr_bert.simulation.formats.extracted import EXTRACTED_FORMAT
from ehr_bert.simulation.formats.fhir import FHIR_FORMAT
from ehr_bert.simulation.formats.meds import MEDS_FORMAT
from ehr_bert.simulation.formats.omop import OMOP_FORMAT
from ehr_bert.simulation.formats.tutorial import TUTORIAL_FORMAT

RECORD_FORMATS = {
    "tsv": TUTORIAL_FORMAT,
    "parquet": EXTRACTED_FORMAT,
    "omop": OMOP_FORMAT,
    "meds": MEDS_FORMAT,
    "fhir": FHIR_FORMAT,
}
"""Formats by name."""
