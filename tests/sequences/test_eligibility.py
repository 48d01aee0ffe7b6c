"""The rules against plain pandas, on a table where everything befalls records."""

from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest

from ehr_bert.engines import DuckDBEngine
from ehr_bert.schemas import SpecialToken, Split
from ehr_bert.sequences.building import SequenceOptions, build_histories
from ehr_bert.sequences.eligibility import Eligibility
from ehr_bert.sequences.folder import write_sequences_folder
from ehr_bert.sequences.summary import summary_text
from ehr_bert.sources import read_tutorial_table
from ehr_bert.vocabulary import CodeCount, Vocabulary
from tests.sequences.decoding import decoded_sequences
from tests.sequences.messy import messy_rows, write_tutorial_table
from tests.sequences.reference import reference
from tests.user_errors import raises_user_error

FROM, UNTIL = date(2014, 5, 1), date(2015, 12, 22)
"""Days on which visits are discharged, so that the borders count."""

HEADED = [
    *(f"ICD10_E11.6{digit}" for digit in range(4)),
    *(f"ICD10_E11.{digit}" for digit in range(3)),
    "ICD10_E11",
    *(f"ICD9_250.{digit:02}" for digit in range(12)),
    *(f"ICD9_E88{digit}.9" for digit in range(5)),
    *(f"SNOMED_{number}" for number in range(5)),
]
"""30 codes, most with headings."""


@pytest.fixture
def rows() -> pd.DataFrame:
    return messy_rows(300, seed=21)


def skewed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with codes of `HEADED` of very different frequencies."""
    number = rows["code"].str.removeprefix("ICD9_").astype(int)
    rank = (number**4 // 29**3 + rows["patient_id"].astype(int) % 2).clip(upper=29)
    return rows.assign(code=[HEADED[index * 7 % 30] for index in rank])


def sequences_of(
    engine: DuckDBEngine,
    table: Path,
    options: SequenceOptions,
    sample_size: int = 0,
    given: Vocabulary | None = None,
) -> tuple[dict[str, dict[str, list]], set[str], Vocabulary]:
    """The sequences by patient, the patients of the training split, and the vocabulary."""
    diagnoses = read_tutorial_table(engine, table)
    built = build_histories(engine, diagnoses, 0, sample_size, options, given)
    vocabulary = built.vocabulary(given, Split.TRAIN)
    splits = decoded_sequences(engine, built, vocabulary)
    patients = {patient: row for split in splits.values() for patient, row in split.items()}
    return patients, set(splits[Split.TRAIN]), vocabulary


def flow_of(frames: dict[str, pd.DataFrame]) -> list[dict]:
    return [
        {"rule": rule, "patients": frame["patient_id"].nunique(), "rows": len(frame)}
        for rule, frame in frames.items()
    ]


def of_patients(rows: pd.DataFrame, enough: pd.Series) -> pd.DataFrame:
    return rows[rows["patient_id"].isin(enough[enough].index)]


def test_visits_and_patients_are_filtered_by_rule_and_counted(
    engine: DuckDBEngine, tmp_path: Path, rows: pd.DataFrame
) -> None:
    table = write_tutorial_table(tmp_path / "table.tsv", rows)
    eligibility = Eligibility(from_date=FROM, until=UNTIL, min_codes=6, min_visits=5)
    summary = write_sequences_folder(
        engine, table, tmp_path / "out", options=SequenceOptions(eligibility=eligibility)
    )
    later = rows[rows["discharge_date"] >= FROM]
    dated = later[later["discharge_date"] <= UNTIL]
    codes = dated.drop_duplicates(["patient_id", "discharge_date", "code"]).groupby("patient_id").size()
    coded = of_patients(dated, codes >= 6)
    left = of_patients(coded, coded.groupby("patient_id")["discharge_date"].nunique() >= 5)
    assert summary["flow"] == flow_of(
        {
            "usable rows": rows,
            f"discharged from {FROM}": later,
            f"discharged until {UNTIL}": dated,
            "at least 6 codes": coded,
            "at least 5 visits": left,
        }
    )
    assert len({step["patients"] for step in summary["flow"][2:]}) == 3
    counts = summary["rows"]
    assert counts["outside_dates"] == len(rows) - len(dated)
    assert counts["of_ineligible_patients"] == len(dated) - len(left)
    assert counts["outside_sample"] == 0
    assert counts["sequence_codes"] + counts["merged_duplicates"] == len(left)
    patients, _, _ = sequences_of(engine, table, SequenceOptions(eligibility=eligibility))
    assert patients == reference(left)
    assert any(FROM in stays(patient) for patient in patients.values())
    assert any(UNTIL in stays(patient) for patient in patients.values())
    assert "at least 5 visits" in summary_text(summary)


def stays(patient: dict[str, list]) -> list[date]:
    """A patient's days of discharge."""
    pairs = zip(patient["admit_date"], patient["los_days"], strict=True)
    return [admit + timedelta(days) for admit, days in pairs]


def test_a_sample_is_drawn_from_eligible_patients(
    engine: DuckDBEngine, tmp_path: Path, rows: pd.DataFrame
) -> None:
    table = write_tutorial_table(tmp_path / "table.tsv", rows)
    options = SequenceOptions(eligibility=Eligibility(min_visits=9))
    patients, _, _ = sequences_of(engine, table, options, sample_size=11)
    assert len(patients) == 11
    assert min(len(patient["los_days"]) for patient in patients.values()) >= 9


def test_no_eligible_patient_is_an_error_with_the_cohort_flow(
    engine: DuckDBEngine, tmp_path: Path, rows: pd.DataFrame
) -> None:
    table = write_tutorial_table(tmp_path / "table.tsv", rows)
    options = SequenceOptions(eligibility=Eligibility(until=date(2013, 1, 1)))
    with raises_user_error("no-eligible-patients", table, "300", "discharged until 2013-01-01: 0"):
        sequences_of(engine, table, options)


def common_targets(pairs: set[tuple[str, str]], min_patients: int, kept: set[str]) -> dict[str, str | None]:
    """The replacement of each code, found heading by heading from the longest codes; None is `[UNK]`."""
    current = {code: code for _, code in pairs}
    for length in range(max(map(len, current.values())), 0, -1):
        patients = Counter(code for _, code in {(patient, current[code]) for patient, code in pairs})
        for code, target in current.items():
            if len(target) == length and patients[target] < min_patients and target not in kept:
                is_heading = "." not in target
                current[code] = target if is_heading else target[:-1].rstrip(".")
    final = Counter(code for _, code in {(patient, current[code]) for patient, code in pairs})
    return {
        code: target if final[target] >= min_patients or target in kept else None
        for code, target in current.items()
    }


@pytest.mark.parametrize("kept", [set(), {"ICD9_250.11", "SNOMED_0"}])
def test_rare_codes_are_replaced_by_a_heading_or_become_unknown(
    engine: DuckDBEngine, tmp_path: Path, rows: pd.DataFrame, kept: set[str]
) -> None:
    rows = skewed(rows)
    table = write_tutorial_table(tmp_path / "table.tsv", rows)
    options = SequenceOptions(eligibility=Eligibility(min_patients=40))
    given = Vocabulary.from_counts(CodeCount(code, 0, 0) for code in kept)
    patients, training, vocabulary = sequences_of(engine, table, options, given=given)
    in_training = rows[rows["patient_id"].isin(training)]
    pairs = set(zip(in_training["patient_id"], in_training["code"], strict=True))
    assert {code for _, code in pairs} == set(rows["code"])
    targets = common_targets(pairs, 40, kept)
    moved = {code for code, target in targets.items() if target not in (code, None)}
    unknown = {code for code, target in targets.items() if target is None}
    assert len(moved) > 5
    assert len(unknown) > 1
    recoded = rows.assign(code=rows["code"].map(lambda code: targets[code] or code.partition(".")[0]))
    expected = reference(recoded)
    known = {target for target in targets.values() if target}
    for patient in expected.values():
        patient["codes"] = [code if code in known else SpecialToken.UNK for code in patient["codes"]]
    assert set(vocabulary.tokens) == known | kept | set(SpecialToken)
    assert multisets(patients) == multisets(expected)


def multisets(patients: dict[str, dict[str, list]]) -> dict[str, list[tuple[int, str]]]:
    """The sorted codes of each visit, since the position of an unknown code depends on the original code."""
    return {
        patient: sorted(zip(row["visit_ids"], row["codes"], strict=True)) for patient, row in patients.items()
    }


def test_replacements_of_rare_codes_are_counted(
    engine: DuckDBEngine, tmp_path: Path, rows: pd.DataFrame
) -> None:
    rows = skewed(rows)
    table = write_tutorial_table(tmp_path / "table.tsv", rows)
    options = SequenceOptions(eligibility=Eligibility(min_patients=40))
    summary = write_sequences_folder(engine, table, tmp_path / "out", options=options)
    _, training, _ = sequences_of(engine, table, options)
    in_training = rows[rows["patient_id"].isin(training)]
    targets = common_targets(set(zip(in_training["patient_id"], in_training["code"], strict=True)), 40, set())
    moved = {code for code, target in targets.items() if target not in (code, None)}
    unknown = {code for code, target in targets.items() if target is None}
    assert summary["rare_codes"] == {
        "codes_to_heading": len(moved),
        "rows_to_heading": rows["code"].isin(moved).sum(),
        "codes_to_unknown": len(unknown),
        "rows_to_unknown": rows["code"].isin(unknown).sum(),
    }
    counts = summary["rows"]
    assert counts["sequence_codes"] + counts["merged_duplicates"] == counts["read"] == len(rows)
    assert sum(summary["unknown_codes"].values()) > 0
    assert "rare codes" in summary_text(summary)
