"""Which system a code is of, by what its store calls the system or by the code's shape."""

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
"""What a name must match, in capitals and without anything but letters and digits."""

_SHAPES = {
    "^[0-9]{6,18}$": CodeSystem.SNOMED,
    "^([0-9]{3,5}|[0-9]{1,3}[.][0-9]{1,2})$": CodeSystem.ICD9CM,
    "^V[0-9]{2}[.]?[0-9]{0,2}$": CodeSystem.ICD9CM,
    "^E(9[0-9]{2,3}|[0-9]{3}[.][0-9]?)$": CodeSystem.ICD9CM,
    "^[A-Z][0-9][0-9A-Z]([.]?[0-9A-Z]{1,4})?$": CodeSystem.ICD10CM,
}
"""The first that matches decides. `V` and two to four digits is ICD-9-CM, since the codes of ICD-10-CM under
V are longer. `E8` and digits may be either, where there is no dot: `_e8_of_icd9` tells."""


def system_named(name: ir.StringValue) -> ir.StringValue:
    """The `CodeSystem` that a store calls `name`, whatever stands before it: `ICD-9-CM`, `.../ICD/10`.

    Null for another system.
    """
    compact = name.upper().re_replace("[^A-Z0-9]", "")
    return _first_match(compact, _NAMES)


def system_by_shape(code: ir.StringValue) -> ir.StringValue:
    """The `CodeSystem` that a code looks like, dotted or not; null if it looks like none."""
    text = code.strip().upper()
    return ibis.ifelse(text.isin(_e8_of_icd9()), CodeSystem.ICD9CM.value, _first_match(text, _SHAPES))


def _first_match(text: ir.StringValue, systems: dict[str, CodeSystem]) -> ir.StringValue:
    return ibis.cases(
        *((text.re_search(pattern), system.value) for pattern, system in systems.items()),
        else_=ibis.null("string"),
    )


@cache
def _e8_of_icd9() -> list[str]:
    """Codes from E80 to E89, without their dots, that ICD-9-CM has and ICD-10-CM lacks."""
    icd9, icd10 = (
        {code.removeprefix(prefix).replace(".", "") for code in titles() if code.startswith(f"{prefix}E8")}
        for prefix in (ICD9_PREFIX, ICD10_PREFIX)
    )
    return sorted(icd9 - icd10)
