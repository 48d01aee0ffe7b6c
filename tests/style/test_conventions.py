"""Conventions that hold in the whole package."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.test_rooms import MODULES

KEY = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
PRINTING = {"programs", "codes.make_maps"}
"""Modules outside `cli` that may print: they are programs, or run them."""


RECREATED = "UserError(raised[2], raised[1])"
"""The call in `engines.spark` that recreates an error from the text that Spark reports."""


def calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    """Calls of a function, each with the place in the package, as `module:line`."""
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield f"{module}:{node.lineno}", node


def is_key(node: ast.expr) -> bool:
    """Whether an argument is a literal key. In the registry it may end with the kind of the registry."""
    if isinstance(node, ast.JoinedStr):
        return bool(re.fullmatch(r"f'[a-z-]+-{self\._key}'", ast.unparse(node)))
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(KEY.fullmatch(node.value))


def test_only_the_commands_print():
    places = [
        place
        for place, _ in calls("print")
        if (module := place.partition(":")[0]) not in PRINTING and module.split(".")[0] != "cli"
    ]
    assert places == []


@pytest.mark.parametrize(("name", "position", "arguments"), [("UserError", 0, 2), ("warn", 1, 3)])
def test_every_error_and_warning_has_a_literal_key(name, position, arguments):
    places = [
        place
        for place, call in calls(name)
        if ast.unparse(call) != RECREATED and (len(call.args) != arguments or not is_key(call.args[position]))
    ]
    assert places == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("'unknown-store'", True),
        ("f'unknown-{self._key}'", True),
        ("f'unknown-{path}'", False),
        ("f'{self._key}'", False),
        ("key", False),
        ("'Unknown store'", False),
        ("'unspecified-'", False),
    ],
)
def test_a_key_is_a_literal_of_lower_case_words(code, expected):
    assert is_key(ast.parse(code, mode="eval").body) == expected
