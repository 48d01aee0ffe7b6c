"""Headings of ICD codes: `ICD10_E11.62` is the parent of `ICD10_E11.621`, and `ICD10_E11` its category."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from ehr_bert.codes.systems import ICD9_PREFIX, ICD10_PREFIX


def category(code: str) -> str | None:
    """Return the category of an ICD code, the part before the dot, or None for other systems."""
    return code.partition(".")[0] if code.startswith((ICD9_PREFIX, ICD10_PREFIX)) else None


def parent(code: str) -> str | None:
    """Return the next heading above an ICD code, or None for categories and other systems."""
    if category(code) in (code, None):
        return None
    return code[:-1].removesuffix(".")


def ancestors(code: str) -> Iterator[str]:
    """Return the headings above a code, from the nearest to the category."""
    heading = parent(code)
    while heading is not None:
        yield heading
        heading = parent(heading)


def with_headings(groups: Mapping[str, str]) -> dict[str, str]:
    """Add the headings whose codes all belong to one group to a mapping of codes to groups."""
    groups_below: dict[str, set[str]] = defaultdict(set)
    for code, group in groups.items():
        for heading in ancestors(code):
            groups_below[heading].add(group)
    headings = {heading: next(iter(below)) for heading, below in groups_below.items() if len(below) == 1}
    return headings | dict(groups)
