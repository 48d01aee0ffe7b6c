"""Settings as dataclasses, checked key by key against their type hints, wherever they come from.

A hint is `bool`, `int`, `float`, `str`, a `Literal`, `tuple[str, ...]`, `dict[str, float]`, one of these or
`None`, or one with a `ValueRule`: `Annotated[int, ValueRule(...)]`. A setting may also be settings itself, or
a tuple of settings.
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
    get_args,
    get_origin,
    get_type_hints,
)

from ehr_bert.errors import UserError
from ehr_bert.toml import toml_value


class ValueRule(NamedTuple):
    """What a value must be, beside its type."""

    holds: Callable[[Any], bool]
    words: str


Count = Annotated[int, ValueRule(lambda number: number >= 1, "1 or more")]
Natural = Annotated[int, ValueRule(lambda number: number >= 0, "0 or more")]
Positive = Annotated[float, ValueRule(lambda number: number > 0, "above 0")]
NonNegative = Annotated[float, ValueRule(lambda number: number >= 0, "0 or more")]
Share = Annotated[float, ValueRule(lambda number: 0 <= number <= 1, "from 0 to 1")]
PositiveShare = Annotated[float, ValueRule(lambda number: 0 < number <= 1, "above 0 and at most 1")]
Fraction = Annotated[float, ValueRule(lambda number: 0 <= number < 1, "from 0 to below 1")]

_TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}

S = TypeVar("S")


class Settings:
    """Base of frozen dataclasses whose values are checked when one is made.

    Raises:
        UserError: a value is of another type, or breaks its rule. The message begins with the key.
    """

    def __post_init__(self) -> None:
        for key, hint in _hints(type(self)).items():
            object.__setattr__(self, key, _fitted(key, hint, getattr(self, key)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """See `settings_of`."""
        return settings_of(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """All settings by key, as JSON or TOML hold them; those that are None are left out."""

        def plain(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
            return {key: value for key, value in items if value is not None}

        return dataclasses.asdict(self, dict_factory=plain)  # type: ignore[call-overload]


def settings_of(cls: type[S], values: Mapping[str, Any], prefix: str = "") -> S:
    """The settings of a table; keys that it lacks have their defaults.

    Args:
        cls: A dataclass.
        values: Settings by key, those of settings in settings as tables.
        prefix: Stands before keys in messages.

    Raises:
        UserError: a key is unknown, or a value doesn't fit.
    """
    hints = _hints(cls)
    given = {}
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(hints)}"
            raise UserError("unknown-setting", f"unknown key {prefix + key!r}: {hint}")
        given[key] = _fitted(prefix + key, hints[key], value)
    try:
        return cls(**given)
    except UserError as error:
        raise error.prefixed(prefix) from None


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """All values that are no tables, by keys with dots; the tables of a list are numbered from 1."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, list | tuple) and value and all(isinstance(each, Mapping) for each in value):
            value = {str(number): each for number, each in enumerate(value, 1)}
        found |= dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """By keys with dots, as `dotted` makes them, the values that differ; None where there is none."""
    ours, theirs = dotted(one), dotted(other)
    pairs = {key: (ours.get(key), theirs.get(key)) for key in dict.fromkeys((*ours, *theirs))}
    return {key: (one, other) for key, (one, other) in pairs.items() if one != other}


def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _fitted(key: str, hint: Any, value: Any) -> Any:
    """`value` as `hint` wants it.

    Raises:
        UserError: it doesn't fit.
    """
    if get_origin(hint) in (Union, UnionType):
        (wanted,) = (each for each in get_args(hint) if each is not NoneType)
        return None if value is None else _fitted(key, wanted, value)
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        each_hint = get_args(hint)[0]
        return tuple(_fitted(f"{key}.{number}", each_hint, each) for number, each in enumerate(value, 1))
    if get_origin(hint) is dict and isinstance(value, Mapping):
        each_hint = get_args(hint)[1]
        return {name: _fitted(f"{key}.{name}", each_hint, each) for name, each in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return settings_of(hint, value, f"{key}.")  # type: ignore[arg-type]
    if not _fits(hint, value):
        raise UserError("invalid-setting", f"{key} must be {_words(hint)}, not {_shown(value)}")
    return float(value) if hint is float or get_args(hint)[:1] == (float,) else value


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value is of a type; a whole number is a number, a truth value is neither."""
    if get_origin(hint) is Annotated:
        plain, rule = get_args(hint)
        return _fits(plain, value) and rule.holds(value)
    if get_origin(hint) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(hint))
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint is int:
        return type(value) is int and -(2**63) <= value < 2**63  # as TOML has it, and every store
    return type(value) is hint


def _words(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        plain, rule = get_args(hint)
        return f"{_TYPES[plain]}, {rule.words}"
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(_shown, get_args(hint)))}"
    if get_origin(hint) is tuple:
        return "a list"
    return _TYPES.get(hint, "a table")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a table"
    try:
        return toml_value(value)
    except TypeError:
        return str(value)
