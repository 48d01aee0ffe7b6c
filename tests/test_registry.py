import math
import sys
from importlib import invalidate_caches

import pytest

from ehr_bert.registry import Registry, wrong_instance
from tests.user_errors import raises_user_error, warning_keys

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


def test_a_name_of_the_package_cannot_be_replaced(installed, caplog):
    installed("square_root = math:cbrt")
    functions = registry()
    assert functions["square_root"](9.0) == 3.0
    assert list(functions) == list(BUILTIN)
    assert warning_keys(caplog) == ["duplicate-function"]
    assert "(math:cbrt of extra 1.0)" in caplog.text


def test_two_packages_cannot_share_a_name(installed, caplog):
    installed("root = math:cbrt", name="one")
    installed("root = math:sqrt", name="two")
    functions = registry()
    with raises_user_error("duplicate-function", "math:cbrt of one 1.0", "math:sqrt of two 1.0"):
        functions["root"]
    assert list(functions.usable()) == list(BUILTIN)


@pytest.mark.parametrize(
    ("target", "mentioned"),
    [
        ("no_such_module_anywhere:x", "No module named"),
        ("math:cubic", "has no attribute 'cubic'"),
        ("exits:x", "SystemExit: 3"),
        ("raises:x", "ZeroDivisionError: division by zero"),
        ("unreadable:x", "SyntaxError"),
        ("not a module", "AttributeError"),
    ],
)
def test_an_object_that_cannot_be_imported_stops_only_its_own_use(
    installed, tmp_path, caplog, target, mentioned
):
    (tmp_path / "exits.py").write_text("raise SystemExit(3)")
    (tmp_path / "raises.py").write_text("1 / 0")
    (tmp_path / "unreadable.py").write_text("x = = 1")
    installed(f"broken = {target}")
    functions = registry()
    assert list(functions.usable()) == list(functions.usable()) == list(BUILTIN)
    assert warning_keys(caplog) == ["broken-function"]
    with raises_user_error("broken-function", "'broken'", f"({target} of extra 1.0)", mentioned) as caught:
        functions["broken"]
    assert "\n" not in str(caught.value)


def test_a_package_with_damaged_entry_points_is_left_out(installed, caplog):
    installed("cube_root = math:cbrt")
    installed("no equals sign", name="damaged")
    assert list(registry()) == [*BUILTIN, "cube_root"]
    assert warning_keys(caplog) == ["unreadable-entry-points"]
    assert "damaged" in caplog.text


def adopted(name, loaded, guard):
    return wrong_instance(loaded, type(math.cbrt)) or guard(
        loaded, lambda root, number: "returned a negative root" if root < 0 else None
    )


def test_an_object_of_a_wrong_type_is_refused(installed):
    installed("pi = math:pi")
    with raises_user_error("invalid-function", "'pi'", "is a float, not an instance of builtin_function"):
        Registry("function", "test.functions", BUILTIN, adopted)["pi"]


def test_the_mistakes_of_a_guarded_function_name_its_package(installed):
    installed("cube_root = math:cbrt")
    root = Registry("function", "test.functions", BUILTIN, adopted)["cube_root"]
    assert root(27.0) == pytest.approx(3)
    with raises_user_error("failed-function", "math:cbrt of extra 1.0", "negative root"):
        root(-27.0)
    with raises_user_error("failed-function", "raised in cbrt: TypeError"):
        root("27")
