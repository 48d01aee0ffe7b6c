"""Roll-up of codes to coarser codes, or to one code system."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache

from ehr_bert.codes.headings import category, with_headings
from ehr_bert.codes.maps import ccs_categories, ccsr_categories, icd10_equivalents
from ehr_bert.codes.systems import ICD10_PREFIX


class RollUp(StrEnum):
    """Target of a roll-up.

    `3-character` is the ICD category (four characters for E codes of ICD-9-CM). `ccs` and `ccsr` are the
    classifications of AHRQ; an ICD-9-CM code is mapped to CCSR through its ICD-10-CM equivalent. `icd10` maps
    ICD-9-CM codes to this equivalent. A heading has a CCS or CCSR category if all codes below it share it.
    """

    NONE = "none"
    CATEGORY = "3-character"
    CCS = "ccs"
    CCSR = "ccsr"
    ICD10 = "icd10"


def roll_up_targets(codes: Iterable[str], to: RollUp) -> dict[str, str]:
    """Return the target of each code. Codes without a target are not in the result."""
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
