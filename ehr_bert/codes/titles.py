"""What to call a code to a person: its own title, or else that of the group that it is of."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from ehr_bert.codes.chapters import OTHER, chapter
from ehr_bert.codes.headings import with_headings
from ehr_bert.codes.maps import ccs_categories, titles
from ehr_bert.errors import UserError
from ehr_bert.schemas import ContextKind, is_context

_CONTEXT = {
    ContextKind.SEX: "sex {}",
    ContextKind.AGE: "age {}",
    ContextKind.GAP: "{} days since the last visit",
}


def read_titles(path: Path) -> dict[str, str]:
    """The titles of a TSV of code and title, further columns left aside.

    Raises:
        UserError: the file can't be read.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return {row[0]: row[1] for row in csv.reader(file, delimiter="\t") if len(row) > 1}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error


def titles_of(codes: Iterable[str], own: Mapping[str, str] | None = None) -> dict[str, str]:
    """What each of some codes is called.

    A heading of ICD, which the published maps don't name, is called by the CCS category that all codes below
    it are of, or else by its chapter, both in brackets. A code of another system that `own` doesn't name is
    called nothing.

    Args:
        codes: Codes with their system's prefix, and context tokens.
        own: The user's titles, which go before the published ones.
    """
    known = {**titles(), **(own or {})}
    groups = with_headings(ccs_categories())
    named = {}
    for code in codes:
        group = titles().get(groups.get(code, ""), "") or chapter(code)
        named[code] = known.get(code) or _context_title(code) or ("" if group == OTHER else f"[{group}]")
    return named


def _context_title(token: str) -> str:
    if not is_context(token):
        return ""
    kind = next(kind for kind in ContextKind if token.startswith(kind.prefix))
    return _CONTEXT[kind].format(token.removeprefix(kind.prefix).replace("-", " to "))
