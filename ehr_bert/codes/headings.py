"""The headings above a code of ICD: `ICD10_E11.62` is above `ICD10_E11.621`, and `ICD10_E11` above all."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from ehr_bert.codes.systems import ICD9_PREFIX, ICD10_PREFIX


def category(code: str) -> str | None:
    """The category of a code of ICD, what stands before its dot; null for other systems."""
    return code.partition(".")[0] if code.startswith((ICD9_PREFIX, ICD10_PREFIX)) else None


def parent(code: str) -> str | None:
    """The next heading above a code of ICD; null for a category, and for other systems."""
    if category(code) in (code, None):
        return None
    return code[:-1].removesuffix(".")


def ancestors(code: str) -> Iterator[str]:
    """The headings above a code, the nearest first."""
    above = parent(code)
    while above is not None:
        yield above
        above = parent(above)


def with_headings(groups: Mapping[str, str]) -> dict[str, str]:
    """A grouping of codes, and of those headings whose codes are all of one group."""
    below: dict[str, set[str]] = defaultdict(set)
    for code, group in groups.items():
        for heading in ancestors(code):
            below[heading].add(group)
    agreed = {heading: next(iter(found)) for heading, found in below.items() if len(found) == 1}
    return agreed | dict(groups)
