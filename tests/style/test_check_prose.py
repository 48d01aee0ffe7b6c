import re

import pytest

from tests.style import check_prose
from tests.style.check_prose import check, discouraged_words, main, table, vague_names


@pytest.mark.parametrize(
    "line",
    [
        "it was told to stop",
        "Patients who have the outcome",
        "written aside",
        "learnt by heart",
        "It LACKS a key",
    ],
)
def test_a_discouraged_pattern_is_reported_with_its_line(line):
    findings = list(discouraged_words(["A clean line.", line]))
    assert findings
    for number, finding in findings:
        assert number == 2
        assert "is discouraged: " in finding


def test_plain_sentences_pass():
    assert list(discouraged_words(["Return the AUROC of each replicate.", "The file is missing."])) == []


def test_vague_names_are_reported():
    text = "def f(told):\n    found = 1\n    for each in told:\n        print(each, found)\n"
    assert [number for number, _ in vague_names(text)] == [1, 2, 3]
    assert list(vague_names("def f(patients):\n    return [token for token in patients]\n")) == []


def test_a_file_is_checked_for_words_and_names(tmp_path):
    file = tmp_path / "module.py"
    file.write_text('"""What was looked at."""\nfound = 1\n')
    findings = check(str(file))
    assert [finding.partition(": ")[0] for finding in findings] == [f"{file}:1", f"{file}:2"]


def test_lines_on_the_allow_list_are_skipped(tmp_path, monkeypatch):
    (tmp_path / "discouraged.txt").write_text("# comment\n\\btold\\b\tsays\n")
    (tmp_path / "allowed.txt").write_text(f"{tmp_path}/*.md\tis told in the original\n")
    monkeypatch.setattr(check_prose, "STYLE", tmp_path)
    for name in ("page.md", "other.toml"):
        (tmp_path / name).write_text("It is told in the original.\nIt is told here.\n")
    assert [finding.split(": ")[0] for finding in check(str(tmp_path / "page.md"))] == [
        f"{tmp_path}/page.md:2"
    ]
    assert len(check(str(tmp_path / "other.toml"))) == 2


def test_every_pattern_is_valid_and_has_advice():
    for name in ("discouraged.txt", "allowed.txt"):
        for first, second in table(name):
            re.compile(first if name == "discouraged.txt" else second)
            assert second.strip()


def test_the_exit_status_says_whether_there_are_findings(tmp_path, monkeypatch, capsys):
    file = tmp_path / "page.md"
    for text, status in (("It is clear.\n", 0), ("It was told.\n", 1)):
        file.write_text(text)
        monkeypatch.setattr("sys.argv", ["check_prose.py", str(file)])
        assert main() == status
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "1 files: no discouraged words"
    assert printed[1].startswith(f"{file}:1: 'told' is discouraged")
