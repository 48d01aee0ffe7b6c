"""Canonical form of diagnosis codes, such as `ICD9_250.00` and `ICD10_E11.9`."""

from functools import cache

import ibis
import ibis.expr.types as ir

from ehr_bert.codes.maps import icd9_codes
from ehr_bert.codes.systems import ICD9_PREFIX, ICD10_PREFIX, SNOMED_PREFIX, CodeSystem

_SURROUNDINGS = "^[ \t\r\n]+|[.]?[ \t\r\n]*$"
"""Blanks around a code, and a trailing dot."""
_ICD9_NUMBER = "^([0-9]{1,3}[.][0-9]{1,2}|[0-9]{1,5})$"
_ICD9_V = "^V[0-9]{2}[.]?[0-9]{0,2}$"
_ICD9_E = "^E[0-9]{3}[.]?[0-9]?$"
_ICD10 = "^[A-Z][0-9][0-9A-Z]([.]?[0-9A-Z]{1,4})?$"
_ICD10_MARKS = "[-.+*!†‡]+$"
"""Marks at the end of a code, such as dagger and asterisk, and the dash of a heading (`E11.-`)."""
_SNOMED = "^[0-9]{6,18}$"


def canonical(code: ir.StringValue, system: ir.StringValue) -> ir.StringValue:
    """Return codes in canonical form, with the prefix of their system.

    The dot of ICD is optional, and case and surrounding blanks are ignored. Leading zeros that an ICD-9 code
    lost when it was stored as a number are restored. Before a dot, all of them are (`8.45` becomes 008.45).
    Without a dot, they are restored only if the text is not a code or heading of ICD-9-CM and exactly one
    number of zeros makes it one (`1001` becomes 010.01, `845` is unchanged). Any other one or two digits are
    headings.

    Args:
        code: Codes as recorded in the store.
        system: `CodeSystem` of each code.

    Returns:
        The canonical codes. They are null where the text is not a valid code of the system, and for unknown
        systems.
    """
    text = code.upper().re_replace(_SURROUNDINGS, "")
    icd10 = text.re_replace(_ICD10_MARKS, "")
    is_icd10 = system.isin([member.value for member in CodeSystem if member.prefix == ICD10_PREFIX])
    return ibis.cases(
        (system == CodeSystem.ICD9CM.value, ibis.literal(ICD9_PREFIX) + _icd9(text)),
        (is_icd10 & icd10.re_search(_ICD10), ibis.literal(ICD10_PREFIX) + _dotted(icd10.replace(".", ""), 3)),
        ((system == CodeSystem.SNOMED.value) & text.re_search(_SNOMED), ibis.literal(SNOMED_PREFIX) + text),
        else_=ibis.null("string"),
    )


def _icd9(text: ir.StringValue) -> ir.StringValue:
    undotted = text.replace(".", "")
    before_dot, after_dot = text.re_replace("[.].*$", ""), text.re_replace("^[^.]*[.]?", "")
    digits = ibis.ifelse(text.contains("."), before_dot.lpad(3, "0") + after_dot, _with_zeros(text))
    return ibis.cases(
        (text.re_search(_ICD9_NUMBER), _dotted(digits, 3)),
        (text.re_search(_ICD9_V), _dotted(undotted, 3)),
        (text.re_search(_ICD9_E), _dotted(undotted, 4)),
        else_=ibis.null("string"),
    )


def _with_zeros(digits: ir.StringValue) -> ir.StringValue:
    """Restore the lost leading zeros of ICD-9 codes without a dot."""
    restored = [(digits.isin(texts), ibis.literal(zeros) + digits) for zeros, texts in _lost_zeros().items()]
    return ibis.cases(*restored, (digits.length() < 3, digits.lpad(3, "0")), else_=digits)


@cache
def _lost_zeros() -> dict[str, list[str]]:
    """Return the digits that are a code or heading only with leading zeros, by these zeros."""
    undotted = [code.removeprefix(ICD9_PREFIX).replace(".", "") for code in icd9_codes()]
    known = {digits[:length] for digits in undotted for length in (3, 4, 5)}
    lost: dict[str, list[str]] = {"0": [], "00": []}
    for digits in map(str, range(10**4)):
        candidates = [zeros for zeros in lost if zeros + digits in known]
        if digits not in known and len(candidates) == 1:
            lost[candidates[0]].append(digits)
    return lost


def _dotted(undotted: ir.StringValue, before: int) -> ir.StringValue:
    """Insert a dot after the first `before` characters, if more follow."""
    with_dot = undotted.substr(0, before) + "." + undotted.substr(before)
    return ibis.ifelse(undotted.length() > before, with_dot, undotted)
