"""A store of discharge letters, each with its days and a list of codes."""

import ibis

from ehr_bert.sources.records import ColumnNames, StoreRecords, diagnosis_rows
from ehr_bert.sources.store import Store, StoreOption
from ehr_bert.sources.tables import RawTables


def read_letters(tables: RawTables, code_separator: str = ";") -> StoreRecords:
    """Read `letters`, with one row per letter."""
    letters = tables.read("letters", ["patient", "admitted", "discharged", "codes"])
    rows = letters.mutate(code=letters.codes.split(code_separator)).unnest("code")
    return StoreRecords(
        names=ColumnNames(
            code="letters.codes",
            patient_id="letters.patient",
            visit_id="letters.admitted",
            admit_date="letters.admitted",
            discharge_date="letters.discharged",
        ),
        diagnoses=diagnosis_rows(
            rows,
            record=("code",),
            patient_id=rows.patient,
            admit_date=rows.admitted,
            discharge_date=rows.discharged,
            code=rows.code,
            system=ibis.literal("ICD10CM"),
        ),
    )


DISCHARGE_LETTERS = Store(
    name="discharge_letters",
    title="Discharge letters",
    read=read_letters,
    tables=("letters",),
    options=(
        StoreOption("code_separator", metavar="TEXT", help="separator of the codes of a letter (default: ;)"),
    ),
)
