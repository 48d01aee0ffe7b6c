# Covers: ehr_bert.sequences.tutorial
import importlib.util
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ehr_bert.pickles import read_bencs
from ehr_bert.programs import INTERRUPTED
from ehr_bert.schemas import SpecialToken, Split
from ehr_bert.sequences import tutorial
from ehr_bert.vocabulary import TUTORIAL_PAD
from tests.sequences.messy import HEADER, messy_rows, write_tutorial_table
from tests.sequences.reference import reference

PROGRAM = Path(__file__).parents[1] / "preprocess" / "preprocess_pretrain_data.py"
SUFFIXES = [f"{kind}.{split}" for split in Split for kind in ("bencs", "ptencs")] + [
    "rejected.parquet",
    "summary.json",
    "types",
]


@pytest.fixture(scope="module")
def main() -> Callable[[list[str]], int]:
    spec = importlib.util.spec_from_file_location("preprocess_pretrain_data", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def original_reader(path: Path) -> list[Any]:
    """Read a file of patients as the tutorial's programs do: pickle after pickle until the end."""
    patients = []
    with open(path, "rb") as file:
        while True:
            try:
                patients.extend(pickle.load(file, encoding="bytes"))
            except EOFError:
                return patients


def test_every_patient_equals_that_of_the_original(
    main: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tutorial, "PICKLED_PATIENTS", 70)
    rows = messy_rows(300, seed=11)
    table = write_tutorial_table(tmp_path / "table.tsv", rows)
    assert main([str(table), "NA", str(tmp_path / "P"), "0"]) == 0
    assert sorted(path.name for path in tmp_path.glob("P.*")) == sorted(f"P.{suffix}" for suffix in SUFFIXES)
    types = pickle.loads((tmp_path / "P.types").read_bytes())
    codes = {index: code for code, index in types.items()}
    expected = reference(rows)
    histories = {}
    for split in Split:
        bencs = original_reader(tmp_path / f"P.bencs.{split}")
        ptencs = original_reader(tmp_path / f"P.ptencs.{split}")
        assert len(bencs) == len(ptencs)
        for (patient, los, gaps, ids, visits), (records,) in zip(bencs, ptencs, strict=True):
            assert isinstance(patient, int)
            histories[str(patient)] = (los, gaps, [codes[index] for index in ids], visits)
            assert [record[0] for record in records] == los
            assert [record[1] for record in records] == gaps
            assert [index for record in records for index in record[3]] == ids
            assert [n for n, record in enumerate(records, 1) for _ in record[3]] == visits
            assert [[codes[index] for index in record[3]] for record in records] == [r[2] for r in records]
    assert histories == {
        patient: (one["los_days"], one["days_to_next"], one["codes"], one["visit_ids"])
        for patient, one in expected.items()
    }
    assert len(list(read_bencs(tmp_path / "P.bencs.train"))) > 2


def test_types_number_the_codes_of_all_splits_by_decreasing_patient_count(
    main: Callable, tmp_path: Path
) -> None:
    rows = messy_rows(100, seed=12)
    table = write_tutorial_table(tmp_path / "table.tsv", rows)
    main([str(table), "NA", str(tmp_path / "P"), "0"])
    patients = rows.groupby("code")["patient_id"].nunique()
    codes = sorted(patients.index, key=lambda code: (-patients[code], code))
    special = [TUTORIAL_PAD, *list(SpecialToken)[1:]]
    types = pickle.loads((tmp_path / "P.types").read_bytes())
    assert list(types.items()) == [(token, index) for index, token in enumerate([*special, *codes])]


def test_given_types_are_kept(main: Callable, tmp_path: Path) -> None:
    table = write_tutorial_table(tmp_path / "table.tsv", messy_rows(30, seed=13))
    given = {TUTORIAL_PAD: 0, "ICD9_3": 1, "elsewhere": 2}
    (tmp_path / "given.types").write_bytes(pickle.dumps(given))
    assert main([str(table), str(tmp_path / "given.types"), str(tmp_path / "P"), "0"]) == 0
    types = pickle.loads((tmp_path / "P.types").read_bytes())
    assert given.items() <= types.items()
    assert sorted(types.values()) == list(range(len(types)))
    assert len(types) == 3 + 4 + 29


@pytest.mark.parametrize("other", ["x1", "01", "-0", "9223372036854775808"])
def test_one_id_that_is_not_an_integer_makes_all_ids_text(main: Callable, tmp_path: Path, other: str) -> None:
    lines = "".join(f"{patient}\t2014-01-01\t2014-01-02\tA\t\t\t\n" for patient in ("-5", "8", other))
    (tmp_path / "table.tsv").write_text(HEADER + lines)
    main([str(tmp_path / "table.tsv"), "NA", str(tmp_path / "P"), "0"])
    patients = [record[0] for split in Split for record in original_reader(tmp_path / f"P.bencs.{split}")]
    assert sorted(patients) == sorted(["-5", "8", other])


def test_the_tutorial_s_mixed_separators_are_read(main: Callable, tmp_path: Path) -> None:
    (tmp_path / "table.tsv").write_text(
        HEADER
        + "1\t2014-03-01      2014-03-01\tICD9_150.6\t6       1       0\n"
        + "1       2015-11-27      2015-11-29      ICD10_C50\t6       2       0\n"
        + "broken\n"
    )
    assert main([str(tmp_path / "table.tsv"), "NA", str(tmp_path / "P"), "0"]) == 0
    records = [record for split in Split for record in original_reader(tmp_path / f"P.bencs.{split}")]
    assert records == [[1, [0, 2], [636, 0], [6, 5], [1, 2]]]
    assert pq.read_table(tmp_path / "P.rejected.parquet").to_pylist() == [
        {"line": 4, "reason": "not seven fields", "row": "broken"}
    ]
    assert json.loads((tmp_path / "P.summary.json").read_text())["rows"]["rejected"] == {
        "not seven fields": 1
    }


def test_a_rerun_gives_the_same_bytes(main: Callable, tmp_path: Path) -> None:
    table = write_tutorial_table(tmp_path / "table.tsv", messy_rows(100, seed=14))
    for prefix in ("P", "Q"):
        main([str(table), "NA", str(tmp_path / prefix), "31", "--seed", "6"])
    for suffix in SUFFIXES:
        assert (tmp_path / f"P.{suffix}").read_bytes() == (tmp_path / f"Q.{suffix}").read_bytes()
    assert sum(len(original_reader(tmp_path / f"P.bencs.{split}")) for split in Split) == 31


def test_an_interrupted_run_leaves_nothing(
    main: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_tutorial_table(tmp_path / "table.tsv", messy_rows(20, seed=15))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tutorial, "summarise_preprocessing", killed)
    assert main([str(table), "NA", str(tmp_path / "P"), "0"]) == INTERRUPTED
    assert [path.name for path in tmp_path.iterdir()] == ["table.tsv"]


def test_an_error_is_one_line_with_exit_status_1(
    main: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.tsv").write_text(HEADER)
    assert main([str(tmp_path / "table.tsv"), "NA", str(tmp_path / "P"), "0"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("preprocess_pretrain_data.py: ")
    assert last.endswith("[no-usable-rows]")
