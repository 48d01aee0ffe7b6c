import os
import pickle

import numpy as np
import pytest

from ehr_bert.pickles import read_bencs, read_pickles, write_bencs, write_pickles
from tests.user_errors import raises_user_error

PATIENTS = [[7, [0, 3], [9, 0], [5, 6, 7], [1, 1, 2]], [8, [12], [0], [5], [1]]]


def read_as_the_original_does(path):
    """The loop of the original feature program."""
    everything = []
    with open(path, "rb") as file:
        try:
            while True:
                everything.extend(pickle.load(file, encoding="bytes"))
        except EOFError:
            return everything


def test_objects_come_back_in_order(tmp_path):
    objects = [{"a": 1}, [1, "x", None, 2.5], "text"]
    write_pickles(tmp_path / "p", objects)
    assert list(read_pickles(tmp_path / "p")) == objects


class Command:
    def __reduce__(self):
        return os.system, ("touch owned",)


@pytest.mark.parametrize(
    ("value", "name"),
    [(Command(), "system"), (np.float64(1), "numpy"), (np.arange(3), "numpy"), (print, "builtins.print")],
)
def test_a_pickle_that_can_run_code_is_refused(tmp_path, monkeypatch, value, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").write_bytes(pickle.dumps([1, value]))
    with raises_user_error("unsafe-pickle", tmp_path / "p", "pickle 1", name):
        list(read_pickles(tmp_path / "p"))
    assert not (tmp_path / "owned").exists()


def test_a_truncated_or_empty_file_and_one_that_is_not_a_pickle_are_refused(tmp_path):
    path = tmp_path / "p"
    write_pickles(path, [PATIENTS, PATIENTS])
    complete = path.read_bytes()
    for damaged in (complete[:-3], b"patient\tcode\n"):
        path.write_bytes(damaged)
        with raises_user_error("invalid-pickle", path):
            list(read_pickles(path))
    path.write_bytes(b"")
    with raises_user_error("empty-file", path):
        list(read_pickles(path))


def test_bencs_are_read_as_sequences_and_written_as_they_were(tmp_path):
    path = tmp_path / "P.bencs.train"
    write_pickles(path, [PATIENTS, [], PATIENTS[:1]])
    batches = list(read_bencs(path))
    assert [batch.num_rows for batch in batches] == [2, 0, 1]
    assert batches[0].to_pylist()[0] == {
        "patient_id": "7",
        "token_ids": [5, 6, 7],
        "visit_ids": [1, 1, 2],
        "los_days": [0, 3],
        "days_to_next": [9, 0],
    }
    write_bencs(tmp_path / "again", batches, integer_ids=True)
    assert read_as_the_original_does(tmp_path / "again") == [*PATIENTS, PATIENTS[0]]


def test_ids_that_are_not_integers_stay_text(tmp_path):
    write_pickles(tmp_path / "p", [[["x7", *PATIENTS[0][1:]]]])
    write_bencs(tmp_path / "again", read_bencs(tmp_path / "p"), integer_ids=False)
    assert read_as_the_original_does(tmp_path / "again")[0][0] == "x7"


@pytest.mark.parametrize(
    "patient",
    [
        [7, [0], [9], [5, 6]],
        [7, [0], [9], [5, 6], [1]],
        [7, [0], [9, 0], [5], [1]],
        [7, [0], [9], ["ICD9_250"], [1]],
        [7, [0], [9], 5, [1]],
        "patient",
    ],
)
def test_records_of_another_format_are_refused(tmp_path, patient):
    write_pickles(tmp_path / "p", [[PATIENTS[0], patient]])
    with raises_user_error("invalid-record", tmp_path / "p", "pickle 1"):
        list(read_bencs(tmp_path / "p"))


def test_a_missing_file_is_named(tmp_path):
    with raises_user_error("unreadable-file", tmp_path / "none"):
        list(read_pickles(tmp_path / "none"))
