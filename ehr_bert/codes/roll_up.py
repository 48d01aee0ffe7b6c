"""Coarser codes in place of finer ones, and one system in place of two."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache

from ehr_bert.codes.headings import category, with_headings
from ehr_bert.codes.maps import ccs_categories, ccsr_categories, icd10_equivalents
from ehr_bert.codes.systems import ICD10_PREFIX


class RollUp(StrEnum):
    """What codes are rolled up to.

    `3-character` is ICD's category (four characters for ICD-9's E codes); `ccs` and `ccsr` are AHRQ's
    classifications, a code of ICD-9 reaching CCSR by its equivalent in ICD-10-CM; `icd10` takes codes of
    ICD-9 to that equivalent. A heading has a CCS or CCSR category where all codes below it share it.
    """

    NONE = "none"
    CATEGORY = "3-character"
    CCS = "ccs"
    CCSR = "ccsr"
    ICD10 = "icd10"


def rolled_up(codes: Iterable[str], to: RollUp) -> dict[str, str]:
    """What takes the place of each code; a code that can't be mapped is left out."""
    if to == RollUp.NONE:
        return {code: code for code in codes}
    if to == RollUp.CATEGORY:
        targets = {code: category(code) for code in codes}
    elif to == RollUp.ICD10:
        targets = {code: _icd10(code) for code in codes}
    else:
        groups = _groups(to)
        targets = {code: groups.get(code) for code in codes}
    return {code: target for code, target in targets.items() if target is not None}


def _icd10(code: str) -> str | None:
    return code if code.startswith(ICD10_PREFIX) else icd10_equivalents().get(code)


@cache
def _groups(to: RollUp) -> Mapping[str, str]:
    if to == RollUp.CCS:
        return with_headings(ccs_categories())
    groups = with_headings(ccsr_categories())
    equivalents = {code: groups[icd10] for code, icd10 in icd10_equivalents().items() if icd10 in groups}
    return groups | with_headings(equivalents)
