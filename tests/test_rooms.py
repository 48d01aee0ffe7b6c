"""Lower rooms never import higher ones."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ehr_bert"
ROOMS = (
    *("errors", "quiet", "programs", "tasks", "toml", "schemas", "files", "settings", "pickles"),
    *("vocabulary", "engines", "codes", "sources", "simulation", "splits", "sequences", "examples"),
    *("metrics", "cohorts", "model", "weights", "training", "export", "prediction", "report", "launching"),
    *("cli", "__main__"),
)
"""From the lowest to the highest; a room imports those before it."""


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path):
    """The rooms that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (module.split(".")[1] for module in modules if module.startswith("ehr_bert."))


def test_every_room_has_its_place():
    found = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert found == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_lower_ones_alone(room):
    allowed = {*ROOMS[: ROOMS.index(room) + 1], "__version__"}
    for path in PACKAGE.rglob("*.py"):
        if room_of(path) == room:
            assert set(imported_rooms(path)) <= allowed, path
