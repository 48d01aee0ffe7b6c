import math
import sys
from importlib import invalidate_caches

import pytest

from ehr_bert.registry import Registry
from tests.user_errors import raises_user_error

BUILTIN = {"square_root": "math:sqrt", "hypotenuse": "math:hypot"}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs a package with the given entry points."""

    def install(*lines, name="extra"):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join(["[test.functions]", *lines]))
        invalidate_caches()

    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return install


def registry():
    return Registry("function", "test.functions", BUILTIN)


def test_built_in_objects_keep_their_order_and_are_imported_on_use():
    functions = registry()
    assert list(functions) == ["square_root", "hypotenuse"]
    assert functions["hypotenuse"] is math.hypot
    assert "hypotenuse" in functions
    assert len(functions) == 2


def test_an_installed_package_adds_an_object(installed):
    installed("cube_root = math:cbrt")
    functions = registry()
    assert list(functions) == ["square_root", "hypotenuse", "cube_root"]
    assert functions["cube_root"] is math.cbrt


def test_an_unknown_name_lists_the_known_ones():
    with raises_user_error("unknown-function", "'sine'", "square_root, hypotenuse"):
        registry()["sine"]


def test_the_key_of_a_kind_of_two_words_has_hyphens():
    with raises_user_error("unknown-task-type", "unknown task type 'sine'"):
        Registry("task type", "test.functions", BUILTIN)["sine"]


def test_a_package_that_is_never_used_is_never_imported(installed):
    installed("broken = no_such_module_anywhere:x")
    functions = registry()
    assert "broken" in functions
    with raises_user_error("broken-function", "no_such_module_anywhere"):
        functions["broken"]


def test_a_name_of_the_package_cannot_be_replaced(installed):
    installed("square_root = math:cbrt")
    with raises_user_error("duplicate-function", "math:cbrt", "test.functions"):
        list(registry())


def test_two_packages_cannot_share_a_name(installed):
    installed("root = math:cbrt", name="one")
    installed("root = math:sqrt", name="two")
    with raises_user_error("duplicate-function", "root"):
        list(registry())
