from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ehr_bert.codes import RollUp, roll_up_targets
from ehr_bert.engines import DuckDBEngine, quantiles
from ehr_bert.sequences.building import SequenceOptions
from ehr_bert.sequences.folder import write_sequences_folder
from ehr_bert.sequences.summary import summary_text
from tests.sequences.messy import messy_rows, write_tutorial_table
from tests.sequences.reference import reference
from tests.sequences.test_eligibility import sequences_of

CODES = ["ICD9_401.9", "ICD9_401.1", "ICD9_365.70", "ICD10_I10", "ICD9_250", "SNOMED_44054006", "odd"]


def some_rows() -> pd.DataFrame:
    rows = messy_rows(100, seed=31)
    number = rows["code"].str.removeprefix("ICD9_").astype(int)
    return rows.assign(code=[CODES[index % len(CODES)] for index in number])


def test_rolled_up_codes_are_merged_within_a_visit(engine: DuckDBEngine, tmp_path: Path) -> None:
    rows = some_rows()
    table = write_tutorial_table(tmp_path / "table.tsv", rows)
    for to in RollUp:
        patients, _, _ = sequences_of(engine, table, SequenceOptions(roll_up=to))
        targets = roll_up_targets(CODES, to)
        assert patients == reference(rows.replace({"code": targets}))


def test_codes_that_a_roll_up_cannot_map_are_counted(engine: DuckDBEngine, tmp_path: Path) -> None:
    rows = some_rows()
    table = write_tutorial_table(tmp_path / "table.tsv", rows)
    options = SequenceOptions(roll_up=RollUp.ICD10)
    summary = write_sequences_folder(engine, table, tmp_path / "out", options=options)
    unmapped = ["ICD9_365.70", "ICD9_250", "SNOMED_44054006", "odd"]
    assert summary["roll_up"] == {
        "to": "icd10",
        "unmapped_codes": 4,
        "unmapped_rows": rows["code"].isin(unmapped).sum(),
    }
    counts = summary["rows"]
    assert counts["sequence_codes"] + counts["merged_duplicates"] == len(rows)
    assert set(summary["codes_by_system"]) == {"ICD9", "ICD10", "SNOMED", "other"}
    assert sum(summary["codes_by_system"].values()) == sum(summary["codes"].values())
    assert "rolled up to icd10" in summary_text(summary)


def test_a_summary_contains_the_quantiles_of_visits_and_codes(engine: DuckDBEngine, tmp_path: Path) -> None:
    rows = messy_rows(97, seed=32)
    summary = write_sequences_folder(
        engine, write_tutorial_table(tmp_path / "table.tsv", rows), tmp_path / "out"
    )
    patients = reference(rows).values()
    for key, column in (("visits_a_patient", "los_days"), ("codes_a_patient", "codes")):
        lengths = [len(patient[column]) for patient in patients]
        expected = np.percentile(lengths, [0, 5, 25, 50, 75, 95, 100], method="inverted_cdf")
        assert list(summary[key].values()) == expected.tolist()


def test_quantiles_of_one_row_are_its_value(engine: DuckDBEngine) -> None:
    assert set(quantiles(engine, engine.load(pa.table({"x": [7]})), "x").values()) == {7}
