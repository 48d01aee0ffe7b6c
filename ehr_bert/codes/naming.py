"""Code system of a code, from the name of the system in the store or from the shape of the code."""

from functools import cache

import ibis
import ibis.expr.types as ir

from ehr_bert.codes.maps import titles
from ehr_bert.codes.systems import ICD9_PREFIX, ICD10_PREFIX, CodeSystem

_NAMES = {
    "ICD9(CM)?$": CodeSystem.ICD9CM,
    "ICD10CM$": CodeSystem.ICD10CM,
    "ICD10GM$": CodeSystem.ICD10GM,
    "ICD10$": CodeSystem.ICD10,
    "SNOMED": CodeSystem.SNOMED,
}
"""Code system by pattern of its name, in capitals and without characters other than letters and digits."""

_SHAPES = {
    "^[0-9]{6,18}$": CodeSystem.SNOMED,
    "^([0-9]{3,5}|[0-9]{1,3}[.][0-9]{1,2})$": CodeSystem.ICD9CM,
    "^V[0-9]{2}[.]?[0-9]{0,2}$": CodeSystem.ICD9CM,
    "^E(9[0-9]{2,3}|[0-9]{3}[.][0-9]?)$": CodeSystem.ICD9CM,
    "^[A-Z][0-9][0-9A-Z]([.]?[0-9A-Z]{1,4})?$": CodeSystem.ICD10CM,
}
"""Code system by pattern of the code; the first match decides.

`V` and two to four digits is ICD-9-CM, since the ICD-10-CM codes under V are longer. An undotted `E8` code
can be either, which `_e8_codes_of_icd9` decides.
"""


def system_named(name: ir.StringValue) -> ir.StringValue:
    """Return the `CodeSystem` of a name such as `ICD-9-CM` or `DIAGNOSIS//ICD//10`, or null if unknown."""
    compact = name.upper().re_replace("[^A-Z0-9]", "")
    return _first_match(compact, _NAMES)


def system_by_shape(code: ir.StringValue) -> ir.StringValue:
    """Return the `CodeSystem` that the shape of a code suggests, with or without a dot, or null."""
    text = code.strip().upper()
    return ibis.ifelse(text.isin(_e8_codes_of_icd9()), CodeSystem.ICD9CM.value, _first_match(text, _SHAPES))


def _first_match(text: ir.StringValue, systems: dict[str, CodeSystem]) -> ir.StringValue:
    return ibis.cases(
        *((text.re_search(pattern), system.value) for pattern, system in systems.items()),
        else_=ibis.null("string"),
    )


@cache
def _e8_codes_of_icd9() -> list[str]:
    """Return the undotted codes from E80 to E89 that exist only in ICD-9-CM."""
    icd9, icd10 = (
        {code.removeprefix(prefix).replace(".", "") for code in titles() if code.startswith(f"{prefix}E8")}
        for prefix in (ICD9_PREFIX, ICD10_PREFIX)
    )
    return sorted(icd9 - icd10)
