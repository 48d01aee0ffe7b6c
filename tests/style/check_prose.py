"""Finds discouraged words in everything that a person reads, and vague names of variables.

Run as `python tests/style/check_prose.py [PATH...]`; without paths, all files that git tracks are checked.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

STYLE = Path(__file__).parent
SUFFIXES = {".py", ".md", ".toml", ".cfg", ".yaml"}
VAGUE_NAMES = {"found", "each", "told", "asked"}
"""Names of variables, parameters and functions that do not say what they hold."""


def table(name: str) -> list[tuple[str, str]]:
    """The rows of a file of two columns, without comments."""
    lines = (STYLE / name).read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t", 1) for line in lines if line.strip() and not line.startswith("#")]
    return [(first, second) for first, second in rows]


def discouraged_words(lines: list[str]) -> Iterator[tuple[int, str]]:
    """The number of each line that matches a discouraged pattern, with what to write instead."""
    patterns = [(re.compile(pattern, re.IGNORECASE), advice) for pattern, advice in table("discouraged.txt")]
    for number, line in enumerate(lines, 1):
        for pattern, advice in patterns:
            if match := pattern.search(line):
                yield number, f"{match.group()!r} is discouraged: {advice}"


def vague_names(text: str) -> Iterator[tuple[int, str]]:
    """The number of each line of Python that gives a variable, parameter or function a vague name."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = node.name
        else:
            continue
        if name in VAGUE_NAMES:
            yield node.lineno, f"{name!r} is a vague name: say what it holds"


def check(path: str) -> list[str]:
    """The findings in one file, as `path:line: finding`."""
    text = Path(path).read_text(encoding="utf-8")
    lines = text.splitlines()
    allowed = [re.compile(pattern) for glob, pattern in table("allowed.txt") if fnmatch(path, glob)]
    findings = list(discouraged_words(lines))
    if path.endswith(".py"):
        findings += vague_names(text)
    return [
        f"{path}:{number}: {finding}"
        for number, finding in sorted(findings)
        if not any(pattern.search(lines[number - 1]) for pattern in allowed)
    ]


def main() -> int:
    """Prints all findings; the exit status is 1 if there are any."""
    paths = sys.argv[1:] or subprocess.check_output(["git", "ls-files"], text=True).splitlines()
    readable = [
        path for path in paths if Path(path).suffix in SUFFIXES or Path(path).name in ("Makefile", "LICENSE")
    ]
    findings = [finding for path in readable for finding in check(path)]
    print("\n".join(findings) if findings else f"{len(readable)} files: no discouraged words")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
