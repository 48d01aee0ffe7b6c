"""Settings as frozen dataclasses, whose values are checked against their type hints.

A type hint is `bool`, `int`, `float`, `str`, a `Literal`, `tuple[str, ...]`, `dict[str, float]`, one of
these or `None`, or one with a `ValueRule`: `Annotated[int, ValueRule(...)]`. A setting may also be another
dataclass of settings, or a tuple of them.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Self,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from ehr_bert.errors import UserError
from ehr_bert.toml import toml_value


class ValueRule(NamedTuple):
    """A condition on a value in addition to its type.

    Attributes:
        holds: Returns whether a value of the right type is allowed.
        description: The condition in words, for messages, such as `1 or more`.
    """

    holds: Callable[[Any], bool]
    description: str


Count = Annotated[int, ValueRule(lambda number: number >= 1, "1 or more")]
Natural = Annotated[int, ValueRule(lambda number: number >= 0, "0 or more")]
Positive = Annotated[float, ValueRule(lambda number: number > 0, "above 0")]
NonNegative = Annotated[float, ValueRule(lambda number: number >= 0, "0 or more")]
Share = Annotated[float, ValueRule(lambda number: 0 <= number <= 1, "from 0 to 1")]
PositiveShare = Annotated[float, ValueRule(lambda number: 0 < number <= 1, "above 0 and at most 1")]
Fraction = Annotated[float, ValueRule(lambda number: 0 <= number < 1, "from 0 to below 1")]

_TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}

_S = TypeVar("_S")


class Settings:
    """Base class of frozen dataclasses that check their values when they are created.

    Raises:
        UserError: A value has the wrong type or breaks its rule (key `invalid-setting`). The message starts
            with the name of the setting.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Training(Settings):
        ...     steps: Count = 100
        >>> Training.from_dict({"steps": 5})
        Training(steps=5)
    """

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            object.__setattr__(self, name, _checked(name, hint, getattr(self, name)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Create the settings from a table, as `settings_of` does."""
        return settings_of(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings that are not None by name, as values of JSON or TOML."""

        def without_none(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
            return {name: value for name, value in items if value is not None}

        return dataclasses.asdict(self, dict_factory=without_none)  # type: ignore[call-overload]


def settings_of(cls: type[_S], values: Mapping[str, Any], prefix: str = "") -> _S:
    """Create a dataclass from a table; settings that are not in the table keep their defaults.

    Args:
        cls: The dataclass.
        values: Values by name. Nested settings are tables.
        prefix: Text before each name in messages.

    Raises:
        UserError: A name is unknown (key `unknown-setting`) or a value is not allowed (`invalid-setting`).
    """
    hints = _hints(cls)
    checked = {}
    for name, value in values.items():
        if name not in hints:
            similar = difflib.get_close_matches(name, hints, n=1)
            advice = f"Did you mean {prefix}{similar[0]}?" if similar else f"Known: {', '.join(hints)}."
            raise UserError("unknown-setting", f"unknown setting {prefix + name!r}. {advice}")
        checked[name] = _checked(prefix + name, hints[name], value)
    try:
        return cls(**checked)
    except UserError as error:
        raise error.prefixed(prefix) from None


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested tables to one table, whose keys join the names by dots.

    The tables of a list are numbered from 1.

    Example:
        >>> dotted({"model": {"layers": 2}, "phases": [{"steps": 5}]})
        {'model.layers': 2, 'phases.1.steps': 5}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            value = {str(number): table for number, table in enumerate(value, 1)}
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the pairs of values that differ between two tables, by dotted key; None if a key is missing."""
    ours, theirs = dotted(one), dotted(other)
    pairs = {key: (ours.get(key), theirs.get(key)) for key in dict.fromkeys((*ours, *theirs))}
    return {key: (one, other) for key, (one, other) in pairs.items() if one != other}


def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _checked(name: str, hint: Any, value: Any) -> Any:
    """Return `value`, converted to the type of `hint`.

    Raises:
        UserError: The value is not allowed (key `invalid-setting`).
    """
    if get_origin(hint) in (Union, UnionType):
        (item_hint,) = (option for option in get_args(hint) if option is not NoneType)
        return None if value is None else _checked(name, item_hint, value)
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        item_hint = get_args(hint)[0]
        return tuple(_checked(f"{name}.{number}", item_hint, item) for number, item in enumerate(value, 1))
    if get_origin(hint) is dict and isinstance(value, Mapping):
        item_hint = get_args(hint)[1]
        return {key: _checked(f"{name}.{key}", item_hint, item) for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return settings_of(hint, value, f"{name}.")  # type: ignore[arg-type]
    if not _is_allowed(hint, value):
        raise UserError("invalid-setting", f"{name} must be {_allowed_values(hint)}, not {_as_text(value)}.")
    return float(value) if hint is float or get_args(hint)[:1] == (float,) else value


def _is_allowed(hint: Any, value: Any) -> bool:
    """Return whether a value has a type. An integer is also a number; a Boolean is neither."""
    if get_origin(hint) is Annotated:
        value_type, rule = get_args(hint)
        return _is_allowed(value_type, value) and rule.holds(value)
    if get_origin(hint) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(hint))
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint is int:
        return type(value) is int and -(2**63) <= value < 2**63  # TOML and every store have 64-bit integers.
    return type(value) is hint or (dataclasses.is_dataclass(hint) and isinstance(value, cast(type, hint)))


def _allowed_values(hint: Any) -> str:
    """Return the allowed values in words, such as `a whole number, 1 or more`."""
    if get_origin(hint) is Annotated:
        value_type, rule = get_args(hint)
        return f"{_TYPES[value_type]}, {rule.description}"
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(_as_text, get_args(hint)))}"
    if get_origin(hint) is tuple:
        return "a list"
    return _TYPES.get(hint, "a table")


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a table"
    try:
        return toml_value(value)
    except TypeError:
        return str(value)
