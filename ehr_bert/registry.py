"""Extension points: named objects that come with the package or from another installed package."""

import importlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from ehr_bert.errors import UserError

_T = TypeVar("_T")


class Registry(Mapping[str, _T], Generic[_T]):
    """Objects of one kind by name, each imported when it is first used.

    Another package adds an object through an entry point: a line such as
    `hospital_x = hospital_x.store:STORE` in the group of the registry.

    Args:
        kind: What the objects are, for messages, such as `store`.
        group: Entry-point group, such as `ehr_bert.stores`.
        builtin: Objects of this package as `name: "module:attribute"`, in the order in which they are listed.

    Raises:
        UserError: An unknown name is looked up (key `unknown-KIND`), an installed package reuses a name
            (`duplicate-KIND`), or its object cannot be imported (`broken-KIND`). Spaces in the kind become
            hyphens.

    Example:
        >>> functions = Registry("function", "example.functions", {"square_root": "math:sqrt"})
        >>> functions["square_root"](9.0)
        3.0
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str]) -> None:
        self.kind = kind
        self._key = kind.replace(" ", "-")
        self.group = group
        self._builtin = dict(builtin)
        self._loaded: dict[str, _T] = {}

    @cached_property
    def _installed(self) -> dict[str, EntryPoint]:
        """Entry points of installed packages, by name."""
        points: dict[str, EntryPoint] = {}
        for point in sorted(entry_points(group=self.group)):
            if points.get(point.name, point) != point or point.name in self._builtin:
                raise UserError(
                    f"duplicate-{self._key}",
                    f"{point.value} is installed as the {self.kind} {point.name!r}, which exists already. "
                    f"Rename the entry point in the group {self.group}.",
                )
            points[point.name] = point
        return points

    def __getitem__(self, name: str) -> _T:
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._builtin
        yield from self._installed

    def __len__(self) -> int:
        return len(self._builtin) + len(self._installed)

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._installed

    def _load(self, name: str) -> _T:
        if name in self._builtin:
            module, _, attribute = self._builtin[name].partition(":")
            return cast(_T, getattr(importlib.import_module(module), attribute))
        if name not in self._installed:
            raise UserError(
                f"unknown-{self._key}", f"unknown {self.kind} {name!r}. Choose one of {', '.join(self)}."
            )
        loaded: Any
        try:
            loaded = self._installed[name].load()
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"broken-{self._key}",
                f"the {self.kind} {name!r} ({self._installed[name].value}) cannot be imported: {error}. "
                "Reinstall or remove the package that provides it.",
            ) from error
        return cast(_T, loaded)
