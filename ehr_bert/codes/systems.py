"""Systems of diagnosis codes, and their prefixes in canonical codes."""

from enum import StrEnum

ICD9_PREFIX = "ICD9_"
ICD10_PREFIX = "ICD10_"
SNOMED_PREFIX = "SNOMED_"
CCS_PREFIX = "CCS_"
CCSR_PREFIX = "CCSR_"


class CodeSystem(StrEnum):
    """Systems of raw codes, named as `vocabulary_id` of OMOP."""

    ICD9CM = "ICD9CM"
    ICD10CM = "ICD10CM"
    ICD10 = "ICD10"
    ICD10GM = "ICD10GM"
    SNOMED = "SNOMED"

    @property
    def prefix(self) -> str:
        """Prefix of the codes of the system. National versions of ICD-10 share one prefix."""
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
    """Return the system of a canonical code, such as `ICD9`, or `other`."""
    return next((name for prefix, name in _NAMES.items() if code.startswith(prefix)), "other")
