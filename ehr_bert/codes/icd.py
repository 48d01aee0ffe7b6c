"""One way to write a code, whatever way its store wrote it: `ICD9_250.00`, `ICD10_E11.9`."""

from functools import cache

import ibis
import ibis.expr.types as ir

from ehr_bert.codes.maps import icd9_codes
from ehr_bert.codes.systems import ICD9_PREFIX, ICD10_PREFIX, SNOMED_PREFIX, CodeSystem

_AROUND = "^[ \t\r\n]+|[.]?[ \t\r\n]*$"
"""Blanks before and after a code, and a dot that nothing follows."""
_ICD9_NUMBER = "^([0-9]{1,3}[.][0-9]{1,2}|[0-9]{1,5})$"
_ICD9_V = "^V[0-9]{2}[.]?[0-9]{0,2}$"
_ICD9_E = "^E[0-9]{3}[.]?[0-9]?$"
_ICD10 = "^[A-Z][0-9][0-9A-Z]([.]?[0-9A-Z]{1,4})?$"
_ICD10_MARKS = "[-.+*!†‡]+$"
"""Dagger, asterisk and the like at the end of a code, and the dash of a heading (`E11.-`)."""
_SNOMED = "^[0-9]{6,18}$"


def canonical(code: ir.StringValue, system: ir.StringValue) -> ir.StringValue:
    """The one way to write a code.

    The dot of ICD may lack or stand in its place; case and blanks around don't matter. Leading zeros that
    ICD-9 lost as a number come back: all of them before a dot (`8.45` is 008.45); without a dot, only where
    the text as it stands is no code or heading of ICD-9-CM, and just one number of zeros makes it one
    (`1001` is 010.01, `845` stays). One and two digits are headings unless that rule says otherwise.

    Args:
        code: As its store wrote it.
        system: A `CodeSystem`.

    Returns:
        The code behind the prefix of its system; null where the text can't be a code of it, or for another
        system.
    """
    text = code.upper().re_replace(_AROUND, "")
    icd10 = text.re_replace(_ICD10_MARKS, "")
    is_icd10 = system.isin([each.value for each in CodeSystem if each.prefix == ICD10_PREFIX])
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
    """Undotted digits of ICD-9 with the zeros that they lost in front."""
    by_zeros = [(digits.isin(texts), ibis.literal(zeros) + digits) for zeros, texts in _lost_zeros().items()]
    return ibis.cases(*by_zeros, (digits.length() < 3, digits.lpad(3, "0")), else_=digits)


@cache
def _lost_zeros() -> dict[str, list[str]]:
    """By the zeros in front that make them a code or heading, the digits that are none without."""
    undotted = [code.removeprefix(ICD9_PREFIX).replace(".", "") for code in icd9_codes()]
    known = {digits[:length] for digits in undotted for length in (3, 4, 5)}
    lost: dict[str, list[str]] = {"0": [], "00": []}
    for digits in map(str, range(10**4)):
        made = [zeros for zeros in lost if zeros + digits in known]
        if digits not in known and len(made) == 1:
            lost[made[0]].append(digits)
    return lost


def _dotted(undotted: ir.StringValue, before: int) -> ir.StringValue:
    """A dot after the first `before` characters, where more follow."""
    with_dot = undotted.substr(0, before) + "." + undotted.substr(before)
    return ibis.ifelse(undotted.length() > before, with_dot, undotted)
