"""Patterns of codes."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate

_RANGE = re.compile(r"(?P<system>[A-Z0-9]+_)(?P<low>[^-]+)-(?P=system)(?P<high>[^-]+)")


def matching_codes(patterns: Sequence[str], codes: Iterable[str]) -> list[str]:
    """Return the codes that match one of the patterns, sorted.

    Args:
        patterns: Codes; codes with the wildcards `*` (anything), `?` (one character) and `[13]` (one of
            these); or ranges of codes such as `ICD10_E08-ICD10_E13`, which include all codes below the last.
        codes: Distinct codes.

    Example:
        >>> matching_codes(["ICD10_E08-ICD10_E10"], ["ICD10_E10.9", "ICD10_E11.9"])
        ['ICD10_E10.9']
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


def is_valid_pattern(pattern: str) -> bool:
    """Return False for a range that ends before it begins, else True."""
    match = _RANGE.fullmatch(pattern)
    return match is None or match["low"] <= match["high"]
