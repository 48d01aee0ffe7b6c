import os
import pickle

import numpy as np
import pytest

from ehr_bert.errors import UserError
from ehr_bert.pickles import read_bencs, read_pickles, write_bencs, write_pickles

PATIENTS = [[7, [0, 3], [9, 0], [5, 6, 7], [1, 1, 2]], [8, [12], [0], [5], [1]]]


def read_like_the_original(path):
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
def test_a_pickle_that_names_a_global_is_refused_and_runs_nothing(tmp_path, monkeypatch, value, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").write_bytes(pickle.dumps([1, value]))
    with pytest.raises(UserError, match=rf"p refused, pickle 1: it names .*{name}.*can run code"):
        list(read_pickles(tmp_path / "p"))
    assert not (tmp_path / "owned").exists()


def test_a_file_that_is_cut_off_or_no_pickle_is_refused(tmp_path):
    path = tmp_path / "p"
    write_pickles(path, [PATIENTS, PATIENTS])
    whole = path.read_bytes()
    for damaged in (whole[:-3], b"patient\tcode\n", b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"p (is cut off|refused|is empty)"):
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
    assert read_like_the_original(tmp_path / "again") == [*PATIENTS, PATIENTS[0]]


def test_ids_that_are_no_integers_stay_text(tmp_path):
    write_pickles(tmp_path / "p", [[["x7", *PATIENTS[0][1:]]]])
    write_bencs(tmp_path / "again", read_bencs(tmp_path / "p"), integer_ids=False)
    assert read_like_the_original(tmp_path / "again")[0][0] == "x7"


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
def test_records_of_another_form_are_refused(tmp_path, patient):
    write_pickles(tmp_path / "p", [[PATIENTS[0], patient]])
    with pytest.raises(UserError, match="p, pickle 1: a patient"):
        list(read_bencs(tmp_path / "p"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="none can't be read"):
        list(read_pickles(tmp_path / "none"))
