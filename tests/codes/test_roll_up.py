# Covers: ehr_bert.codes.headings, ehr_bert.codes.roll_up
import pytest

from ehr_bert.codes import RollUp, roll_up_targets
from ehr_bert.codes.headings import ancestors, category, parent, with_headings
from ehr_bert.codes.maps import ccs_categories, titles

CODES = [
    "ICD9_250.00",
    "ICD9_250",
    "ICD9_428",
    "ICD9_E885.9",
    "ICD9_V58.61",
    "ICD9_365.70",
    "ICD10_E11.9",
    "ICD10_I48",
    "SNOMED_44054006",
    "anything",
]


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        (RollUp.NONE, {code: code for code in CODES}),
        (
            RollUp.CATEGORY,
            {
                "ICD9_250.00": "ICD9_250",
                "ICD9_250": "ICD9_250",
                "ICD9_428": "ICD9_428",
                "ICD9_E885.9": "ICD9_E885",
                "ICD9_V58.61": "ICD9_V58",
                "ICD9_365.70": "ICD9_365",
                "ICD10_E11.9": "ICD10_E11",
                "ICD10_I48": "ICD10_I48",
            },
        ),
        (
            RollUp.CCS,
            {
                "ICD9_250.00": "CCS_49",
                "ICD9_428": "CCS_108",
                "ICD9_E885.9": "CCS_2603",
                "ICD9_V58.61": "CCS_257",
                "ICD9_365.70": "CCS_88",
                "ICD10_E11.9": "CCS_49",
                "ICD10_I48": "CCS_106",
            },
        ),
        (
            RollUp.CCSR,
            {
                "ICD9_250.00": "CCSR_END002",
                "ICD9_428": "CCSR_CIR019",
                "ICD9_E885.9": "CCSR_EXT013",
                "ICD9_V58.61": "CCSR_FAC025",
                "ICD10_E11.9": "CCSR_END002",
                "ICD10_I48": "CCSR_CIR017",
            },
        ),
        (
            RollUp.ICD10,
            {
                "ICD9_250.00": "ICD10_E11.9",
                "ICD9_E885.9": "ICD10_W18.49XA",
                "ICD9_V58.61": "ICD10_Z79.01",
                "ICD10_E11.9": "ICD10_E11.9",
                "ICD10_I48": "ICD10_I48",
            },
        ),
    ],
)
def test_codes_are_rolled_up_and_codes_without_a_target_are_excluded(
    to: RollUp, expected: dict[str, str]
) -> None:
    assert roll_up_targets(CODES, to) == expected


def test_ccs_categories_of_all_rolled_up_codes_have_a_title() -> None:
    targets = set(roll_up_targets(ccs_categories(), RollUp.CCS).values())
    assert len(targets) > 270
    assert targets <= titles().keys()


def test_headings_above_a_code_end_with_its_category() -> None:
    assert list(ancestors("ICD10_E11.621")) == ["ICD10_E11.62", "ICD10_E11.6", "ICD10_E11"]
    assert list(ancestors("ICD9_E885.9")) == ["ICD9_E885"]
    assert category("ICD9_E885.9") == "ICD9_E885"
    assert parent("ICD10_I10") is None


@pytest.mark.parametrize("code", ["SNOMED_44054006", "CCS_49", "anything", "X.1"])
def test_other_systems_have_no_headings(code: str) -> None:
    assert category(code) is None
    assert parent(code) is None


def test_a_heading_has_the_group_that_all_its_codes_share() -> None:
    groups = {"ICD9_001.01": "a", "ICD9_001.02": "a", "ICD9_001.1": "b", "ICD9_002.0": "b"}
    assert with_headings(groups) == groups | {"ICD9_001.0": "a", "ICD9_002": "b"}
