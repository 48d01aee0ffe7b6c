"""Argument types for numbers on the command line."""

import argparse
import math


def count(text: str) -> int:
    """Parse a whole number, 1 or more."""
    return _whole_number(text, 1)


def natural(text: str) -> int:
    """Parse a whole number, 0 or more."""
    return _whole_number(text, 0)


def positive(text: str) -> float:
    """Parse a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _whole_number(text: str, minimum: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = minimum - 1
    if number < minimum:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {minimum} or more")
    return number
