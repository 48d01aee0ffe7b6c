"""Systems of diagnosis codes, and the prefix by which a code tells its own."""

from enum import StrEnum

ICD9_PREFIX = "ICD9_"
ICD10_PREFIX = "ICD10_"
SNOMED_PREFIX = "SNOMED_"
CCS_PREFIX = "CCS_"
CCSR_PREFIX = "CCSR_"


class CodeSystem(StrEnum):
    """The systems that a raw code can be of, named as in OMOP's `vocabulary_id`."""

    ICD9CM = "ICD9CM"
    ICD10CM = "ICD10CM"
    ICD10 = "ICD10"
    ICD10GM = "ICD10GM"
    SNOMED = "SNOMED"

    @property
    def prefix(self) -> str:
        """How codes of the system begin; the national forms of ICD-10 share one."""
        return _PREFIXES[self]


_PREFIXES = {
    CodeSystem.ICD9CM: ICD9_PREFIX,
    CodeSystem.ICD10CM: ICD10_PREFIX,
    CodeSystem.ICD10: ICD10_PREFIX,
    CodeSystem.ICD10GM: ICD10_PREFIX,
    CodeSystem.SNOMED: SNOMED_PREFIX,
}


_NAMES = {prefix: prefix.removesuffix("_") for prefix in (*_PREFIXES.values(), CCS_PREFIX, CCSR_PREFIX)}


def system_of(code: str) -> str:
    """The system that a code's prefix tells, such as `ICD9`; `other` for any other code."""
    return next((name for prefix, name in _NAMES.items() if code.startswith(prefix)), "other")
