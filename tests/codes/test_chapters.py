import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.codes.chapters import CHAPTERS, CONTEXT, OTHER, chapter
from ehr_bert.codes.maps import icd10_equivalents, titles


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ICD9_001", "Infectious diseases"),
        ("ICD9_139.8", "Infectious diseases"),
        ("ICD9_140.0", "Neoplasms"),
        ("ICD9_250.00", "Endocrine and metabolic"),
        ("ICD9_359.9", "Nervous system"),
        ("ICD9_360", "Eye"),
        ("ICD9_389.9", "Ear"),
        ("ICD9_428.0", "Circulatory system"),
        ("ICD9_999.9", "Injury and poisoning"),
        ("ICD9_E849.0", "External causes"),
        ("ICD9_V58.67", "Factors influencing health status"),
        ("ICD10_C7A.1", "Neoplasms"),
        ("ICD10_D49.9", "Neoplasms"),
        ("ICD10_D50", "Blood and immunity"),
        ("ICD10_H59.9", "Eye"),
        ("ICD10_H60.00", "Ear"),
        ("ICD10_I50.9", "Circulatory system"),
        ("ICD10_O9A.1", "Pregnancy and childbirth"),
        ("ICD10_T88.9", "Injury and poisoning"),
        ("ICD10_U07.1", "Special purposes"),
        ("ICD10_Y99.9", "External causes"),
        ("ICD10_Z99.9", "Factors influencing health status"),
        ("AGE_60-69", CONTEXT),
        ("SNOMED_44054006", OTHER),
        ("ICD9_", OTHER),
        ("[UNK]", OTHER),
    ],
)
def test_chapter_of_a_code(code, expected):
    assert chapter(code) == expected


@given(st.one_of(st.text(), st.text().map("ICD9_".__add__), st.text().map("ICD10_".__add__)))
def test_every_text_has_a_chapter(text):
    assert chapter(text) in CHAPTERS


def test_all_published_icd_codes_have_a_chapter_of_icd():
    assert {chapter(code) for code in titles() if code.startswith("ICD")} == {*CHAPTERS} - {CONTEXT, OTHER}


def test_most_codes_keep_their_chapter_in_icd_10():
    pairs = icd10_equivalents().items()
    assert sum(chapter(icd9) == chapter(icd10) for icd9, icd10 in pairs) > 0.93 * len(pairs)
