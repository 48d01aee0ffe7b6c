import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.cohorts.patterns import is_valid_pattern, matching_codes

CODES = ["ICD10_E07.9", "ICD10_E08", "ICD10_E10.65", "ICD10_E13.9", "ICD10_E14", "ICD9_250", "ICD9_250.01"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["ICD9_250"], ["ICD9_250"]),
        (["ICD9_250*"], ["ICD9_250", "ICD9_250.01"]),
        (["ICD9_250.*"], ["ICD9_250.01"]),
        (["ICD9_250.?[13]"], ["ICD9_250.01"]),
        (["ICD10_E08-ICD10_E13"], ["ICD10_E08", "ICD10_E10.65", "ICD10_E13.9"]),
        (["ICD10_E08-ICD10_E10.6"], ["ICD10_E08", "ICD10_E10.65"]),
        (["ICD10_E14", "ICD9_250", "ICD10_E14"], ["ICD10_E14", "ICD9_250"]),
        (["*"], CODES),
        (["icd9_250"], []),
        ([], []),
    ],
)
def test_patterns(patterns, expected):
    assert matching_codes(patterns, CODES) == expected


def test_a_range_that_ends_before_it_begins_is_invalid():
    assert not is_valid_pattern("ICD10_E13-ICD10_E08")
    assert all(is_valid_pattern(pattern) for pattern in ("ICD10_E08-ICD10_E08", "ICD10_E*", "LOCAL_b-a"))


def test_a_code_with_a_hyphen_is_not_a_range():
    assert matching_codes(["LOCAL_a-b"], ["LOCAL_a", "LOCAL_a-b"]) == ["LOCAL_a-b"]


categories = st.integers(0, 999).map("ICD9_{:03}".format)


@given(categories, categories, st.sets(categories))
def test_a_range_includes_all_categories_between_its_ends(one, other, codes):
    low, high = sorted((one, other))
    within = {code for code in codes if low <= code <= high}
    assert set(matching_codes([f"{low}-{high}"], codes)) == within
    below = {f"{code}.1" for code in codes}
    assert {code[:-2] for code in matching_codes([f"{low}-{high}"], below)} == within
