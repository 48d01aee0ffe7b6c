import argparse

import pytest

from ehr_bert.cli.counts import count, natural, positive


def test_numbers_are_parsed():
    assert (count("3"), natural("0"), positive("0.5")) == (3, 0, 0.5)


@pytest.mark.parametrize(
    ("parse", "text"),
    [(count, "0"), (count, "many"), (natural, "-1"), (natural, "1.5"), (positive, "0"), (positive, "inf")],
)
def test_numbers_out_of_range_are_refused(parse, text):
    with pytest.raises(argparse.ArgumentTypeError, match=text):
        parse(text)
