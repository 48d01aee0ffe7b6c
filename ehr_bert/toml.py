"""TOML: the standard library reads it; here it is written too, for the plain values that settings hold."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ehr_bert.errors import UserError

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
"""A key that needs no quotes."""


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        UserError: the file can't be read, or is something else.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is no TOML: {error}") from error


def toml_text(values: Mapping[str, Any]) -> str:
    """The text that reads back as `values`.

    Args:
        values: What `toml_value` writes, by key; or a mapping of such, a table; or a list of such mappings.
            Keys of tables are letters, digits and underscores.
    """
    tables = {key: value for key, value in values.items() if _is_table(value) or _is_tables(value)}
    blocks = [_lines(values, leave_out=tables)] if len(tables) < len(values) else []
    for key, value in tables.items():
        headed = [(f"[{key}]", value)] if _is_table(value) else [(f"[[{key}]]", each) for each in value]
        blocks += [f"{head}\n{_lines(table)}" for head, table in headed]
    return "\n".join(blocks)


def toml_value(value: Any) -> str:
    """A text, number, truth value, or a list, tuple or mapping of them, as TOML writes it on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's, which also wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        pairs = [
            f"{key if BARE_KEY.fullmatch(key) else toml_value(key)} = {toml_value(each)}"
            for key, each in value.items()
        ]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    return f"[{', '.join(map(toml_value, value))}]"


def _lines(table: Mapping[str, Any], leave_out: Mapping[str, Any] | None = None) -> str:
    return "".join(
        f"{key} = {toml_value(value)}\n" for key, value in table.items() if key not in (leave_out or {})
    )


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_table, value))
