from datetime import date

import numpy as np
import pandas as pd
import pytest

from ehr_bert.schemas import DIAGNOSES
from ehr_bert.simulation.coding import site_coding
from ehr_bert.simulation.conditions import Conditions
from ehr_bert.simulation.version1.coding import diagnoses
from ehr_bert.simulation.version1.histories import SimulatedHistories


def rows_of(conditions: Conditions, histories: SimulatedHistories, kept: int) -> pd.DataFrame:
    coding = site_coding(conditions, np.random.default_rng(5))
    table = diagnoses(conditions, coding, histories, 101, kept, np.random.default_rng(6))
    assert table.schema == DIAGNOSES
    table.validate(full=True)
    return table.to_pandas()


@pytest.fixture(scope="module")
def rows(conditions: Conditions, before: SimulatedHistories) -> pd.DataFrame:
    return rows_of(conditions, before, len(before.prevalent))


def test_the_discharge_date_decides_the_code_system(rows: pd.DataFrame) -> None:
    tenth = rows["code"].str.startswith("ICD10_")
    assert tenth.any()
    assert not tenth.all()
    assert (tenth == (rows["discharge_date"] >= date(2015, 10, 1))).all()


def test_rows_are_in_order_of_patient_time_and_priority(rows: pd.DataFrame) -> None:
    keys = rows.assign(patient_id=rows["patient_id"].astype(int))
    order = ["patient_id", "discharge_date", "priority"]
    pd.testing.assert_frame_equal(keys, keys.sort_values(order))
    assert keys["patient_id"].iloc[0] == 101


def test_priorities_of_a_visit_count_from_1(rows: pd.DataFrame) -> None:
    priority = rows.groupby(["patient_id", "discharge_date"])["priority"]
    assert (priority.min() == 1).all()
    assert (priority.max() == priority.size()).all()
    assert (priority.nunique() == priority.size()).all()


def test_flags_are_0_or_1_and_most_diagnoses_were_present_on_admission(rows: pd.DataFrame) -> None:
    assert set(rows["present_on_admission"]) == set(rows["third_party"]) == {0, 1}
    assert 0.9 < rows["present_on_admission"].mean() < 1


def test_some_codes_are_recorded_twice_at_a_visit(rows: pd.DataFrame) -> None:
    twice = rows.duplicated(["patient_id", "discharge_date", "code"]).mean()
    assert 0.01 < twice < 0.06


def test_patients_have_a_habitual_code(conditions: Conditions, rows: pd.DataFrame) -> None:
    family = {conditions.codes[code] for code in conditions.members[0][conditions.numbers["hypertension"]]}
    coded = rows[rows["code"].isin(family)].groupby("patient_id")["code"]
    own = coded.agg(lambda codes: codes.value_counts(normalize=True).iloc[0])[coded.size() >= 5]
    overall = rows[rows["code"].isin(family)]["code"].value_counts(normalize=True)
    assert own.mean() > 0.6
    assert overall.iloc[0] < 0.4


def test_fewer_patients_are_the_first_of_more(
    conditions: Conditions, before: SimulatedHistories, rows: pd.DataFrame
) -> None:
    few = rows_of(conditions, before, 13)
    assert few["patient_id"].nunique() == 13
    pd.testing.assert_frame_equal(few, rows.iloc[: len(few)])
