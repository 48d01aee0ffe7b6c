import pytest

from ehr_bert.cohorts.cohort import read_cohort
from ehr_bert.cohorts.folder import write_pickled_cohort
from ehr_bert.cohorts.labelled_pickles import read_labelled_pickles
from ehr_bert.errors import UserError
from ehr_bert.pickles import write_pickles
from ehr_bert.schemas import Split

TYPES = {"empty_pad": 0, "ICD9_A": 1, "ICD9_B": 2, "ICD9_C": 4}
PATIENTS = {
    Split.TRAIN: [[[12, 1, [4, 1, 2], [1, 1, 2]], [3, 0, [2], [5]]], [[5, 0, [], []]]],
    Split.VALID: [[]],
    Split.TEST: [[["a", 1, [1, 1, 1], [2, 3, 3]]]],
}


def written(folder, patients=PATIENTS, types=TYPES, infix=""):
    for split in Split:
        write_pickles(folder / f"dhf{infix}.{split}", patients[split])
    write_pickles(folder / "dhf.types", [types])
    return folder / "dhf", folder / "dhf.types"


@pytest.mark.parametrize("infix", ["", ".bencs"])
def test_a_cohort_of_pickles(engine, tmp_path, infix):
    summary = write_pickled_cohort(engine, *written(tmp_path, infix=infix), tmp_path / "out")
    cohort = read_cohort(tmp_path / "out")
    histories = cohort.histories
    assert cohort.patient_ids.tolist() == ["12", "3", "5", "a"]
    assert cohort.split.tolist() == ["train", "train", "train", "test"]
    assert cohort.labels("label").tolist() == [1, 0, 0, 1]
    assert histories.vocabulary[histories.codes].tolist() == [
        *("ICD9_C", "ICD9_A", "ICD9_B"),
        "ICD9_B",
        *("ICD9_A", "ICD9_A", "ICD9_A"),
    ]
    assert histories.visit_ids.tolist() == [1, 1, 2, 1, 1, 2, 2]
    assert histories.visits.tolist() == [2, 1, 0, 2]
    assert summary["splits"]["train"]["positives"] == {"label": 1}
    assert summary["definition"] == {"pickles": "dhf"}


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([[[1, 1, [1]]]], r"dhf\.train, pickle 1: a patient must be \[patient, label, codes, visits\]"),
        ([[], [[1, 1, [1, 2], [1]]]], "pickle 2: a patient's codes and visits differ in number"),
        ([[[1, 1, [3], [1]]]], "an id of a code is none's"),
        ([[[1, 1, [0], [1]]]], "an id of a code is none's"),
        ([[[1, 1, [99], [1]]]], "an id of a code is none's"),
        ([[["a", 1, [1], [1]]]], "1 patients are in two splits"),
    ],
)
def test_faults_are_told(tmp_path, train, message):
    with pytest.raises(UserError, match=message):
        read_labelled_pickles(*written(tmp_path, PATIENTS | {Split.TRAIN: train}))


def test_pickles_of_nobody_are_told(tmp_path):
    with pytest.raises(UserError, match="dhf: the pickles hold no patient"):
        read_labelled_pickles(*written(tmp_path, {split: [[]] for split in Split}))
