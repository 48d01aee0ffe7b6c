"""Extension points: named objects that come with the package or from another installed package.

A mistake in another package is reported in one line that names the package and the object. It stops only the
commands that use the object; the others warn and ignore it.
"""

import functools
import importlib
import inspect
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import Any, Generic, NoReturn, TypeVar, cast

from ehr_bert.errors import UserError
from ehr_bert.logs import warn, warn_of

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

Report = Callable[[str], NoReturn]
"""Raises a `UserError` that names the object, given what is wrong with it."""

Check = Callable[..., str | None]
"""Returns what is wrong with a result, None if nothing is: of the result, then the arguments of the call."""

Guard = Callable[..., Callable[..., Any]]
"""`Registry.guarded` for one object: of a function and, if its result is checked, a `Check`."""


class Registry(Mapping[str, _T], Generic[_T]):
    """Objects of one kind by name, each imported when it is first used.

    Another package adds an object through an entry point: a line such as
    `hospital_x = hospital_x.store:STORE` in the group of the registry. An entry point cannot replace an
    object of this package; it is ignored with a warning (`duplicate-KIND`).

    Args:
        kind: What the objects are, for messages, such as `store`.
        group: Entry-point group, such as `ehr_bert.stores`.
        builtin: Objects of this package as `name: "module:attribute"`, in the order in which they are listed.
        adopt: Called with the name, the object and a `Guard` when an object of another package is first used.
            It returns the object with its functions guarded, or what is wrong with it, as a string.

    Raises:
        UserError: An unknown name is looked up (key `unknown-KIND`), several installed packages have the name
            (`duplicate-KIND`), its object cannot be imported (`broken-KIND`), or is not what it should be
            (`invalid-KIND`). A guarded function of an object fails or returns a wrong result
            (`failed-KIND`). Spaces in the kind become hyphens.

    Example:
        >>> functions = Registry("function", "example.functions", {"square_root": "math:sqrt"})
        >>> functions["square_root"](9.0)
        3.0
    """

    def __init__(
        self,
        kind: str,
        group: str,
        builtin: Mapping[str, str],
        adopt: Callable[[str, Any, Guard], _T | str] | None = None,
    ) -> None:
        self.kind = kind
        self._key = kind.replace(" ", "-")
        self.group = group
        self._builtin = dict(builtin)
        self._adopt = adopt
        self._loaded: dict[str, _T] = {}
        self._failures: dict[str, UserError] = {}

    @cached_property
    def _installed(self) -> dict[str, list[EntryPoint]]:
        """Entry points of installed packages by name. Several of one name are a mistake."""
        points: dict[str, list[EntryPoint]] = {}
        for point in sorted(_points(self.group)):
            if point.name in self._builtin:
                warn(
                    logger,
                    f"duplicate-{self._key}",
                    f"{self._described(point)} is ignored: ehr-bert has a {self.kind} of this name. "
                    f"Rename the entry point in the group {self.group}.",
                )
            elif point not in points.setdefault(point.name, []):
                points[point.name].append(point)
        return points

    def __getitem__(self, name: str) -> _T:
        if name in self._failures:
            raise self._failures[name]
        if name not in self._loaded:
            try:
                self._loaded[name] = self._load(name)
            except UserError as error:
                self._failures[name] = error
                raise
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._builtin
        yield from self._installed

    def __len__(self) -> int:
        return len(self._builtin) + len(self._installed)

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._installed

    def usable(self, names: Iterable[str] | None = None) -> dict[str, _T]:
        """Return the objects that can be used, by name. There is a warning for each of the others.

        Args:
            names: Names of objects, all by default.
        """
        usable = {}
        for name in self if names is None else names:
            is_new = name not in self._failures
            try:
                usable[name] = self[name]
            except UserError as error:
                if is_new:
                    warn_of(logger, error, "ignored: ")
        return usable

    def report(self, name: str, problem: str) -> NoReturn:
        """Raise a `UserError` (key `failed-KIND`) that names an object and says what is wrong."""
        (point,) = self._installed[name]
        raise UserError(f"failed-{self._key}", self._message(point, problem))

    def guarded(
        self, name: str, function: Callable[..., Any], check: Check | None = None
    ) -> Callable[..., Any]:
        """Return a function of an installed object with its mistakes reported as a `UserError`.

        Args:
            name: Name of the object.
            function: The function. Errors that it raises are reported, except `UserError` and `OSError`.
            check: Check of its result.

        Raises:
            UserError: The function fails, or its result is wrong (key `failed-KIND`).
        """

        @functools.wraps(function)
        def checked(*arguments: Any, **options: Any) -> Any:
            try:
                result = function(*arguments, **options)
                problem = check(result, *arguments) if check else None
            except (UserError, OSError):
                raise
            except (Exception, SystemExit) as error:
                logger.debug(traceback.format_exc())
                called = getattr(function, "__name__", "its function")
                self.report(name, f"raised in {called}: {_one_line(error)}")
            if problem:
                self.report(name, problem)
            return result

        return checked

    def _load(self, name: str) -> _T:
        if name in self._builtin:
            module, _, attribute = self._builtin[name].partition(":")
            return cast(_T, getattr(importlib.import_module(module), attribute))
        if name not in self._installed:
            raise UserError(
                f"unknown-{self._key}", f"unknown {self.kind} {name!r}. Choose one of {', '.join(self)}."
            )
        point, *others = self._installed[name]
        if others:
            raise UserError(
                f"duplicate-{self._key}",
                f"several packages provide {' and '.join(map(self._described, (point, *others)))}. "
                f"Rename an entry point in the group {self.group}, or uninstall a package.",
            )
        try:
            loaded = point.load()
        except (Exception, SystemExit) as error:
            logger.debug(traceback.format_exc())
            problem = f"cannot be imported: {_one_line(error)}"
            raise UserError(f"broken-{self._key}", self._message(point, problem)) from error
        if self._adopt is None:
            return cast(_T, loaded)
        try:
            adopted = self._adopt(name, loaded, functools.partial(self.guarded, name))
        except Exception as error:
            raise UserError(f"invalid-{self._key}", self._message(point, _one_line(error))) from error
        if isinstance(adopted, str):
            raise UserError(f"invalid-{self._key}", self._message(point, adopted))
        return adopted

    def _message(self, point: EntryPoint, problem: str) -> str:
        return f"{self._described(point)}: {problem.rstrip('.')}. Correct or uninstall the package."

    def _described(self, point: EntryPoint) -> str:
        """Return an installed object with its package, for messages."""
        package = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
        return f"the {self.kind} {point.name!r} ({point.value}{package})"


def with_guards(class_: type[_T], guarded: Mapping[str, Callable[..., Any]]) -> type[_T]:
    """Return a subclass with some functions replaced, under the name of the class."""
    return type(class_.__name__, (class_,), {**guarded, "__module__": class_.__module__})


def wrong_instance(loaded: object, expected: type) -> str | None:
    """Return what is wrong with an object that should be an instance of a class, None if nothing is."""
    if isinstance(loaded, expected):
        return None
    return f"is {_kind_of(loaded)}, not an instance of {expected.__name__}"


def wrong_class(loaded: object, base: type) -> str | None:
    """Return what is wrong with an object that should be a complete subclass of a base class."""
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        return f"is {_kind_of(loaded)}, not a subclass of {base.__name__}"
    if inspect.isabstract(loaded):
        missing: frozenset[str] = vars(loaded)["__abstractmethods__"]
        return f"does not define {', '.join(sorted(missing))}"
    return None


def other_name(name: str, own: object) -> str | None:
    """Return what is wrong with the name of an object, None if it is that of its entry point."""
    return None if own == name else f"its own name is {own!r}. Give the entry point and the object one name"


def _kind_of(loaded: object) -> str:
    if isinstance(loaded, type):
        return f"the class {loaded.__name__}"
    return f"a {type(loaded).__name__}"


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _points(group: str) -> list[EntryPoint]:
    """Return the entry points of a group. Packages whose entry points cannot be read are left out."""
    try:
        return list(entry_points(group=group))
    except Exception:
        points: list[EntryPoint] = []
        for package in distributions():
            try:
                points += package.entry_points.select(group=group)
            except Exception as error:
                warn(
                    logger,
                    "unreadable-entry-points",
                    f"the entry points of the package {package.name} are ignored: {_one_line(error)}. "
                    "Reinstall or uninstall it.",
                )
        return points
