# Covers: ehr_bert.prediction.heads.head, ehr_bert.prediction.heads.linear, ehr_bert.prediction.heads.visits
# Covers: ehr_bert.prediction.heads.recurrent, ehr_bert.prediction.heads.retain, ehr_bert.prediction.heads

from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch

from ehr_bert.prediction.batches import collate
from ehr_bert.prediction.heads import HEADS
from ehr_bert.prediction.heads.linear import LinearHead
from ehr_bert.prediction.heads.visits import visit_vectors
from ehr_bert.prediction.predictor import make_head
from ehr_bert.prediction.reading import ModelVocabulary, encode
from tests.prediction.small import CODES, histories_of, random_patients
from tests.user_errors import raises_user_error

HIDDEN, OUTPUTS = 10, 3
PATIENTS = [*random_patients(6), [], [CODES[:9]]]


@pytest.fixture(scope="module", params=["export", "without_cls"])
def encoded(request):
    folder = request.getfixturevalue(request.param)
    return encode(histories_of(PATIENTS), ModelVocabulary.of_folder(folder))


@pytest.fixture(scope="module")
def batch(encoded):
    return collate(encoded, np.arange(len(PATIENTS)))


@pytest.fixture(scope="module")
def hidden(batch):
    return torch.randn(*batch.token_ids.shape, HIDDEN, generator=torch.Generator().manual_seed(0))


def vectors_by_visit(hidden, batch, row):
    """The mean of the tokens of each visit, computed visit by visit."""
    last = int(batch.visit_ids[row].max())
    return [hidden[row, batch.visit_ids[row] == visit].mean(dim=0) for visit in range(1, last + 1)]


def test_a_visits_vector_is_the_mean_of_its_tokens(hidden, batch):
    vectors = visit_vectors(hidden, batch)
    for row in range(len(batch)):
        expected = vectors_by_visit(hidden, batch, row)
        for place in range(vectors.shape[1]):
            wanted = expected[place] if place < len(expected) else torch.zeros(HIDDEN)
            torch.testing.assert_close(vectors[row, place], wanted)


@pytest.mark.parametrize("name", HEADS)
def test_a_history_gets_the_same_logits_in_any_batch(name, hidden, batch, encoded):
    head = make_head(name, HIDDEN, OUTPUTS, seed=1)
    together = head(hidden, batch)
    assert together.shape == (len(batch), OUTPUTS)
    assert torch.isfinite(together).all()
    for row in range(len(batch)):
        alone = collate(encoded, np.array([row]))
        length = alone.token_ids.shape[1]
        torch.testing.assert_close(head(hidden[[row], :length], alone)[0], together[row])


def test_cls_reads_the_first_token(hidden, batch):
    head = make_head("cls", HIDDEN, OUTPUTS)
    torch.testing.assert_close(head(hidden, batch), head.linear(hidden[:, 0]))


def test_mean_reads_all_tokens(hidden, batch):
    head = make_head("mean", HIDDEN, OUTPUTS)
    for row in range(len(batch)):
        tokens = hidden[row, batch.attention_mask[row]]
        mean = tokens.mean(dim=0) if len(tokens) else torch.zeros(HIDDEN)
        torch.testing.assert_close(head(hidden, batch)[row], head.linear(mean))


@pytest.mark.parametrize("name", ["gru", "bigru"])
def test_a_gru_reads_the_visits(name, hidden, batch):
    head = make_head(name, HIDDEN, OUTPUTS)
    for row in range(6):
        visits = torch.stack(vectors_by_visit(hidden, batch, row))
        _, last = head.gru(visits)  # [directions, H / directions]
        torch.testing.assert_close(head(hidden, batch)[row], head.linear(last.flatten()))


def test_retain_is_as_published(hidden, batch):
    head = make_head("retain", HIDDEN, OUTPUTS)
    for row in range(6):
        visits = torch.stack(vectors_by_visit(hidden, batch, row))  # [K, H]
        latest_first = visits.flip(0)
        g = head.alpha_gru(latest_first)[0].flip(0)  # Back in the order of the visits.
        h = head.beta_gru(latest_first)[0].flip(0)
        alpha = torch.softmax(torch.stack([head.alpha(state) for state in g])[:, 0], dim=0)
        beta = torch.stack([torch.tanh(head.beta(state)) for state in h])
        context = sum(a * b * v for a, b, v in zip(alpha, beta, visits, strict=True))
        torch.testing.assert_close(head(hidden, batch)[row], head.linear(context))


@pytest.mark.parametrize("name", HEADS)
def test_only_the_seed_determines_the_weights(name):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    one, same, other = (make_head(name, HIDDEN, OUTPUTS, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_an_unknown_head_is_refused():
    with raises_user_error("unknown-head", "'gnu'", "cls, mean, gru"):
        make_head("gnu", HIDDEN)


class TooWide(LinearHead):
    """A head with one output too many."""

    def __init__(self, hidden_size, outputs):
        super().__init__(hidden_size, outputs)
        self.linear = torch.nn.Linear(hidden_size, outputs + 1)

    def reduce(self, hidden, batch):
        return hidden[:, 0]


def test_a_head_of_another_package_with_a_wrong_number_of_outputs_is_named(hidden, batch, monkeypatch):
    point = EntryPoint("wide", f"{__name__}:TooWide", HEADS.group)
    monkeypatch.setitem(HEADS.__dict__, "_installed", {"wide": [point]})
    monkeypatch.setattr(HEADS, "_loaded", {})
    head = make_head("wide", HIDDEN, OUTPUTS)
    with raises_user_error("failed-head", "'wide'", f"({len(batch)}, {OUTPUTS + 1})"):
        head(hidden, batch)
