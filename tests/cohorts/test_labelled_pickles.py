import pytest

from ehr_bert.cohorts.cohort import read_cohort
from ehr_bert.cohorts.folder import write_pickled_cohort
from ehr_bert.cohorts.labelled_pickles import read_labelled_pickles
from ehr_bert.pickles import write_pickles
from ehr_bert.schemas import Split
from tests.user_errors import raises_user_error

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
def test_a_cohort_from_pickles(engine, tmp_path, infix):
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
    ("key", "mentioned", "train"),
    [
        ("invalid-record", "dhf.train, pickle 1", [[[1, 1, [1]]]]),
        ("invalid-record", "pickle 2", [[], [[1, 1, [1, 2], [1]]]]),
        ("unknown-code-ids", "pickle 1", [[[1, 1, [3], [1]]]]),
        ("unknown-code-ids", "pickle 1", [[[1, 1, [0], [1]]]]),
        ("unknown-code-ids", "pickle 1", [[[1, 1, [99], [1]]]]),
        ("patients-in-two-splits", "dhf", [[["a", 1, [1], [1]]]]),
    ],
)
def test_unsuitable_pickles_are_refused(tmp_path, key, mentioned, train):
    with raises_user_error(key, mentioned):
        read_labelled_pickles(*written(tmp_path, PATIENTS | {Split.TRAIN: train}))


def test_pickles_without_patients_are_refused(tmp_path):
    with raises_user_error("empty-cohort", "dhf"):
        read_labelled_pickles(*written(tmp_path, {split: [[]] for split in Split}))
