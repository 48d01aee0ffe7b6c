"""Reading and writing TOML. The standard library only reads it."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ehr_bert.errors import UserError

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that need no quotes."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        UserError: The file cannot be read (key `unreadable-file`) or is not TOML (`invalid-toml`).
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            "unreadable-file", f"{path} cannot be read: {error.strerror}. Check the path."
        ) from error
    except ValueError as error:
        raise UserError("invalid-toml", f"{path} is not valid TOML: {error}. Correct it.") from error


def toml_text(values: Mapping[str, Any]) -> str:
    """Return TOML text that is read back as `values`.

    Args:
        values: Values that `toml_value` can write, tables of them, or lists of tables, by key. Names of
            tables consist of letters, digits and underscores.

    Example:
        >>> print(toml_text({"seed": 1, "model": {"layers": 2}}), end="")
        seed = 1
        <BLANKLINE>
        [model]
        layers = 2
    """
    tables = {key: value for key, value in values.items() if _is_table(value) or _is_tables(value)}
    blocks = [_lines(values, leave_out=tables)] if len(tables) < len(values) else []
    for key, value in tables.items():
        headed = [(f"[{key}]", value)] if _is_table(value) else [(f"[[{key}]]", table) for table in value]
        blocks += [f"{head}\n{_lines(table)}" for head, table in headed]
    return "\n".join(blocks)


def toml_value(value: Any) -> str:
    """Return a string, number or Boolean, or a list, tuple or mapping of them, as TOML on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # TOML has the escapes of JSON, but DEL must be escaped too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        pairs = [
            f"{key if BARE_KEY.fullmatch(key) else toml_value(key)} = {toml_value(item)}"
            for key, item in value.items()
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
