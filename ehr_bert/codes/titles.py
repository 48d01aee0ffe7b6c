"""Titles of codes. A code without a title has the title of its group."""

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
    ContextKind.GAP: "{} days since the previous visit",
}


def read_titles(path: Path) -> dict[str, str]:
    """Read titles by code from a TSV of code and title. Other columns are ignored.

    Raises:
        UserError: The file cannot be read (key `unreadable-file`) or is not UTF-8 (`not-utf8`).
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return {row[0]: row[1] for row in csv.reader(file, delimiter="\t") if len(row) > 1}
    except OSError as error:
        raise UserError(
            "unreadable-file", f"{path} cannot be read: {error.strerror}. Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError("not-utf8", f"{path} is not UTF-8: {error}. Convert the file.") from error


def titles_of(codes: Iterable[str], own: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the title of each code.

    ICD headings have no title in the published maps. Their title is the CCS category that all codes below
    share, or else their chapter, in brackets. A code of another system that is not in `own` has an empty
    title.

    Args:
        codes: Canonical codes and context tokens.
        own: Titles of the user, which override the published ones.
    """
    known = {**titles(), **(own or {})}
    groups = with_headings(ccs_categories())
    titles_by_code = {}
    for code in codes:
        group = titles().get(groups.get(code, ""), "") or chapter(code)
        titles_by_code[code] = (
            known.get(code) or _context_title(code) or ("" if group == OTHER else f"[{group}]")
        )
    return titles_by_code


def _context_title(token: str) -> str:
    if not is_context(token):
        return ""
    kind = next(kind for kind in ContextKind if token.startswith(kind.prefix))
    return _CONTEXT[kind].format(token.removeprefix(kind.prefix).replace("-", " to "))
