import argparse
from pathlib import Path

import pytest

from ehr_bert.cli.path_arguments import add_path, add_titles


def test_a_path_is_required_and_titles_are_optional():
    parser = argparse.ArgumentParser()
    add_path(parser, "--output", "folder to write")
    add_titles(parser)
    arguments = parser.parse_args(["--output", "a b"])
    assert (arguments.output, arguments.titles) == (Path("a b"), None)
    with pytest.raises(SystemExit):
        parser.parse_args([])
