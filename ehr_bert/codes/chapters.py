"""Chapters of ICD, with the same names for ICD-9-CM and ICD-10."""

from bisect import bisect_right

from ehr_bert.codes.systems import ICD9_PREFIX, ICD10_PREFIX
from ehr_bert.schemas import is_context

CONTEXT = "Sex, age and gaps"
OTHER = "Other systems"

_ICD10 = {
    "A00": "Infectious diseases",
    "C00": "Neoplasms",
    "D50": "Blood and immunity",
    "E00": "Endocrine and metabolic",
    "F00": "Mental disorders",
    "G00": "Nervous system",
    "H00": "Eye",
    "H60": "Ear",
    "I00": "Circulatory system",
    "J00": "Respiratory system",
    "K00": "Digestive system",
    "L00": "Skin",
    "M00": "Musculoskeletal system",
    "N00": "Genitourinary system",
    "O00": "Pregnancy and childbirth",
    "P00": "Perinatal period",
    "Q00": "Congenital anomalies",
    "R00": "Symptoms and findings",
    "S00": "Injury and poisoning",
    "U00": "Special purposes",
    "V00": "External causes",
    "Z00": "Factors influencing health status",
}
"""Chapter by its first category. A chapter ends before the first category of the next one."""

_ICD9 = {
    "000": "Infectious diseases",
    "140": "Neoplasms",
    "240": "Endocrine and metabolic",
    "280": "Blood and immunity",
    "290": "Mental disorders",
    "320": "Nervous system",
    "360": "Eye",
    "380": "Ear",
    "390": "Circulatory system",
    "460": "Respiratory system",
    "520": "Digestive system",
    "580": "Genitourinary system",
    "630": "Pregnancy and childbirth",
    "680": "Skin",
    "710": "Musculoskeletal system",
    "740": "Congenital anomalies",
    "760": "Perinatal period",
    "780": "Symptoms and findings",
    "800": "Injury and poisoning",
    "E00": "External causes",
    "V00": "Factors influencing health status",
}
"""Chapter by its first category. Nervous system and sense organs are separate chapters, as in ICD-10."""

CHAPTERS = (*_ICD10.values(), CONTEXT, OTHER)
"""All chapters in the order of ICD-10, followed by the groups of all other tokens."""


def chapter(code: str) -> str:
    """Return the chapter of a token, one of `CHAPTERS`.

    ICD codes have a chapter of ICD, context tokens `CONTEXT`, and all other tokens `OTHER`.

    Example:
        >>> chapter("ICD10_E11.9")
        'Endocrine and metabolic'
    """
    for prefix, starts in ((ICD9_PREFIX, _ICD9), (ICD10_PREFIX, _ICD10)):
        category = code.removeprefix(prefix)
        if category != code and category >= next(iter(starts)):
            return starts[list(starts)[bisect_right(list(starts), category) - 1]]
    return CONTEXT if is_context(code) else OTHER
