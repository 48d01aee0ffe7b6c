import dataclasses
from typing import Any

import pytest

from ehr_bert.errors import UserError
from ehr_bert.examples.source import ExamplesInfo
from ehr_bert.training.inputs import features_of, mixture_of
from ehr_bert.training.recipe import Phase

INFO = ExamplesInfo(
    files=("train-00000-of-00001.tfrecord",),
    kind="packed",
    examples=3,
    windows=((3, 512),),
    patients=9,
    real_tokens=900,
    longest=500,
    max_seq_length=512,
    max_predictions_per_seq=None,
    max_id=44,
)


def infos(*lengths: int, **changes: Any) -> list[ExamplesInfo]:
    return [dataclasses.replace(INFO, max_seq_length=length, **changes) for length in lengths]


@pytest.mark.parametrize(
    ("phase", "lengths", "place"),
    [
        (Phase(), (512,), 0),
        (Phase(max_seq_length=512), (512,), 0),
        (Phase(max_seq_length=512), (128,), 0),
        (Phase(max_seq_length=128), (128, 512), 0),
        (Phase(max_seq_length=512), (128, 512), 1),
    ],
)
def test_a_phase_takes_the_features_of_its_length_or_else_the_only_ones(phase, lengths, place):
    assert features_of(phase, 1, infos(*lengths)) == place


def test_the_tutorial_s_examples_are_cut_to_any_length():
    assert features_of(Phase(max_seq_length=128), 1, infos(512, kind="tutorial")) == 0
    assert features_of(Phase(max_seq_length=128), 1, infos(512, kind=None)) == 0


@pytest.mark.parametrize(
    ("phase", "lengths", "message"),
    [
        (
            Phase(max_seq_length=128),
            (512,),
            "phases.2.max_seq_length is 128, and the examples are packed in windows of up to 512: run "
            "`ehr-bert features --max-seq-length 128` into another folder, and name both (--features A B)",
        ),
        (
            Phase(max_seq_length=256),
            (128, 512),
            "phases.2.max_seq_length is 256, and the features have windows of up to 128, 512: "
            "name one folder of the phase's length",
        ),
        (
            Phase(max_seq_length=128),
            (128, 128),
            "phases.2.max_seq_length is 128, and the features have windows of up to 128, 128: "
            "name one folder of the phase's length",
        ),
        (
            Phase(),
            (128, 512),
            "phases.2.max_seq_length is not stated, and the features have windows of up to 128, 512: "
            "name one folder of the phase's length",
        ),
    ],
)
def test_features_that_no_phase_can_take_are_refused_with_their_lengths(phase, lengths, message):
    with pytest.raises(UserError) as error:
        features_of(phase, 2, infos(*lengths))
    assert str(error.value) == message


def test_a_phase_without_a_mixture_must_not_have_to_choose_among_corpora():
    of_a, of_b, shorter = infos(512, 512, 128)
    for phase in (Phase(), Phase(max_seq_length=512)):
        with pytest.raises(UserError) as error:
            mixture_of(phase, 2, [("A", of_a), ("B", of_b)])
        assert str(error.value) == (
            "phases.2 states no mixture, and there are features of A, B: state which it takes, such as "
            "mixture = { A = 1 }"
        )
    assert mixture_of(Phase(max_seq_length=128), 2, [("A", of_a), ("B", shorter)]) == {"B": 1}
    assert mixture_of(Phase(), 2, [("A", of_a)]) == {"A": 0}
