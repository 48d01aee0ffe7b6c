"""Layers of the package: no upward import, no import cycle, and no public name with two meanings."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "ehr_bert"
LAYERS = (
    *("errors", "logs", "registry", "quiet", "programs", "processes", "toml", "schemas", "ragged"),
    *("locks", "files"),
    *("settings", "pickles", "vocabulary", "engines", "codes", "sources", "metrics", "simulation"),
    *(
        "splits",
        "sequences",
        "examples",
        "model",
        "cohorts",
        "weights",
        "objectives",
        "training.record",
        "training",
    ),
    *("export", "launching", "prediction", "prediction.contenders", "prediction.comparison"),
    *("prediction.multitask", "prediction.explaining", "report", "cli", "__main__"),
)
"""From the lowest to the highest. A layer imports only those before it. Some sub-packages are layers."""

PROTOCOL_NAMES = {"add_arguments", "run"}
"""Names that every module in `cli` defines, so that `ehr_bert.cli` can call each command in the same way."""

CONVENTIONAL_NAMES = {"logger"}
"""Names that any module may define: its logger, `logging.getLogger(__name__)`."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def layer_of(module: str) -> str | None:
    """The layer that holds a module: the longest of `LAYERS` that its name begins with."""
    holding = [layer for layer in LAYERS if module == layer or module.startswith(f"{layer}.")]
    return max(holding, key=len, default=None)


def imports_of(module: str) -> Iterator[str]:
    """The modules of the package that a module imports anywhere in its file, in functions and hints too."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "ehr_bert" and parts != ["ehr_bert", "__version__"]:
                candidates = (".".join(parts[1:stop]) for stop in range(len(parts), 1, -1))
                yield next(candidate for candidate in candidates if candidate in MODULES)


def test_every_module_has_a_layer():
    assert [module for module in MODULES if module != "__init__" and layer_of(module) is None] == []


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_lower_ones(layer):
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    modules = [module for module in MODULES if layer_of(module) == layer]
    assert modules, f"{layer} has no module"
    upward = [
        (module, used) for module in modules for used in imports_of(module) if layer_of(used) not in allowed
    ]
    assert upward == []


def test_no_import_cycle():
    graph = {module: set(imports_of(module)) - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def public_names(module: str) -> Iterator[str]:
    """The classes, functions and constants that a module defines, without those of one underscore."""
    for node in ast.parse(MODULES[module].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [
                name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)
            ]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from (name for name in names if not name.startswith("_") and name not in CONVENTIONAL_NAMES)


def test_a_public_name_is_defined_once():
    modules = defaultdict(set)
    for module in MODULES:
        for name in public_names(module):
            modules[name].add(module)
    repeated = {name: sorted(where) for name, where in modules.items() if len(where) > 1}
    for name in PROTOCOL_NAMES:
        assert all(module.startswith("cli.") for module in repeated.pop(name))
    assert repeated == {}


COVERS = re.compile(r"^# Covers: (ehr_bert\..+(?:\n# ehr_bert\..+)*)$", re.MULTILINE)


def covered_modules() -> set[str]:
    """Modules that a test file names in a comment such as `# Covers: ehr_bert.a.b, ehr_bert.a.c`.

    The comment may continue on further lines.
    """
    texts = (path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    names = (
        name for text in texts for comment in COVERS.findall(text) for name in re.split(r"[,\s#]+", comment)
    )
    return {name.removeprefix("ehr_bert.") for name in names if name}


def has_logic(module: str) -> bool:
    """Whether a module defines a function or a class."""
    body = ast.parse(MODULES[module].read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in body)


def mirror_test(module: str) -> Path:
    """The test file of a module, such as `tests/a/test_b.py` of `ehr_bert/a/b.py`."""
    *packages, name = module.split(".")
    return TESTS.joinpath(*packages, f"test_{name}.py")


def test_every_module_with_logic_has_tests():
    covered = covered_modules()
    missing = [
        module
        for module in MODULES
        if has_logic(module) and not mirror_test(module).exists() and module not in covered
    ]
    assert missing == []


def test_only_modules_that_exist_are_covered():
    assert covered_modules() - set(MODULES) == set()


def test_the_rules_are_checked_on_something():
    assert len(MODULES) > 200
    assert sum(1 for module in MODULES for _ in imports_of(module)) > 1000
