import dataclasses
from typing import Any

import pytest

from ehr_bert.examples.source import ExamplesInfo
from ehr_bert.training.inputs import features_of, mixture_of
from ehr_bert.training.recipe import Phase
from tests.user_errors import raises_user_error

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
def test_a_phase_takes_the_features_of_its_length_or_the_only_ones(phase, lengths, place):
    assert features_of(phase, 1, infos(*lengths)) == place


def test_tutorial_examples_are_truncated_to_any_length():
    assert features_of(Phase(max_seq_length=128), 1, infos(512, kind="tutorial")) == 0
    assert features_of(Phase(max_seq_length=128), 1, infos(512, kind=None)) == 0


@pytest.mark.parametrize(
    ("phase", "lengths", "mentioned"),
    [
        (Phase(max_seq_length=128), (512,), ("phases.2.max_seq_length is 128", "--max-seq-length 128")),
        (Phase(max_seq_length=256), (128, 512), ("phases.2.max_seq_length is 256", "128, 512")),
        (Phase(max_seq_length=128), (128, 128), ("128, 128",)),
        (Phase(), (128, 512), ("phases.2.max_seq_length is not set", "128, 512")),
    ],
)
def test_features_of_other_window_lengths_are_refused_with_their_lengths(phase, lengths, mentioned):
    with raises_user_error("window-length-mismatch", *mentioned):
        features_of(phase, 2, infos(*lengths))


def test_a_phase_needs_a_mixture_if_several_corpora_fit():
    of_a, of_b, shorter = infos(512, 512, 128)
    for phase in (Phase(), Phase(max_seq_length=512)):
        with raises_user_error("missing-mixture", "phases.2", "A, B", "mixture = { A = 1 }"):
            mixture_of(phase, 2, [("A", of_a), ("B", of_b)])
    assert mixture_of(Phase(max_seq_length=128), 2, [("A", of_a), ("B", shorter)]) == {"B": 1}
    assert mixture_of(Phase(), 2, [("A", of_a)]) == {"A": 0}
