import doctest
from importlib import import_module

import pytest

from tests.test_rooms import MODULES

WITH_EXAMPLES = [module for module, path in MODULES.items() if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_the_examples_in_docstrings_are_correct(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    results = doctest.testmod(import_module(f"ehr_bert.{module}"), optionflags=options)
    assert results.attempted > 0
    assert results.failed == 0


def test_there_are_examples():
    assert {"errors", "registry", "files"} <= set(WITH_EXAMPLES)
