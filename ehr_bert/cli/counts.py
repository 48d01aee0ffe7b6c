"""Whole numbers on the command line."""

import argparse


def count(text: str) -> int:
    """A whole number, 1 or more, as the type of an argument."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return number
