"""Which codes a list of patterns stands for."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate

from ehr_bert.errors import UserError

_RANGE = re.compile(r"(?P<system>[A-Z0-9]+_)(?P<low>[^-]+)-(?P=system)(?P<high>[^-]+)")


def matching_codes(patterns: Sequence[str], codes: Iterable[str]) -> list[str]:
    """The codes that a pattern holds for.

    Args:
        patterns: Each a code; or a code with `*` for anything, `?` for one character and `[13]` for one of
            some; or a range of codes, `ICD10_E08-ICD10_E13`, the codes below its last among them.
        codes: Distinct codes.

    Raises:
        UserError: a range ends before it begins.
    """
    ranges = [(pattern, _RANGE.fullmatch(pattern)) for pattern in patterns]
    spans = [_span(pattern, match) for pattern, match in ranges if match]
    plain = re.compile("|".join(translate(pattern) for pattern, match in ranges if not match) or r"(?!)")
    return sorted(
        code
        for code in codes
        if plain.match(code) or any(low <= code and code[: len(high)] <= high for low, high in spans)
    )


def _span(pattern: str, match: re.Match[str]) -> tuple[str, str]:
    low, high = (match["system"] + match[end] for end in ("low", "high"))
    if low > high:
        raise UserError(f"the range {pattern} ends before it begins: turn it round")
    return low, high
