"""Which codes a list of patterns stands for."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate

_RANGE = re.compile(r"(?P<system>[A-Z0-9]+_)(?P<low>[^-]+)-(?P=system)(?P<high>[^-]+)")


def matching_codes(patterns: Sequence[str], codes: Iterable[str]) -> list[str]:
    """The codes that a pattern holds for.

    Args:
        patterns: Each a code; or a code with `*` for anything, `?` for one character and `[13]` for one of
            some; or a range of codes, `ICD10_E08-ICD10_E13`, the codes below its last among them.
        codes: Distinct codes.
    """
    ranges = [(pattern, _RANGE.fullmatch(pattern)) for pattern in patterns]
    spans = [
        (match["system"] + match["low"], match["system"] + match["high"]) for _, match in ranges if match
    ]
    plain = re.compile("|".join(translate(pattern) for pattern, match in ranges if not match) or r"(?!)")
    return sorted(
        code
        for code in codes
        if plain.match(code) or any(low <= code and code[: len(high)] <= high for low, high in spans)
    )


def is_no_falling_range(pattern: str) -> bool:
    """Whether a pattern is anything but a range that ends before it begins."""
    match = _RANGE.fullmatch(pattern)
    return match is None or match["low"] <= match["high"]
