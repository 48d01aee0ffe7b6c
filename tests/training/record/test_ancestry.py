# Covers: ehr_bert.cli.ancestry
import json

import pytest

from ehr_bert.cli import main
from ehr_bert.export.folder import export
from ehr_bert.training.execution import pretrain
from ehr_bert.training.initial import read_pretrained
from ehr_bert.training.record.ancestry import (
    HUGGING_FACE,
    TRAINING,
    Ancestry,
    Corpus,
    Generation,
    ancestry_of,
    record_ancestry,
)
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.training.request import PretrainingRequest
from tests.export.small import VOCABULARY, trained_model, training_folder
from tests.training.continuing import continued, fast_runs


@pytest.fixture(scope="module")
def grandchild(parent, tmp_path_factory) -> PretrainingRequest:
    """A training that was initialised from an export of a training."""
    folder = tmp_path_factory.mktemp("grandchild")
    export(parent.folder, folder / "H", min_patients=0)
    request = continued(parent.request, folder / "E", folder / "H", evaluate=False)
    with fast_runs():
        pretrain(request)
    return request


def test_a_training_records_its_parent_its_vocabulary_and_its_corpora(parent, grandchild):
    own, older = Ancestry.read(grandchild.output).generations
    vocabulary = TrainingFolder(parent.folder).vocabulary()
    assert own.origin == older.origin == TRAINING
    assert own.vocabulary_sha256 == vocabulary.sha256
    assert own.corpora == older.corpora
    (corpus,) = own.corpora
    assert corpus.patients == 23
    assert (own.weights_sha256, own.steps) == (None, None)
    assert older.weights_sha256 == read_pretrained(parent.folder).sha256
    assert older.steps == 4
    assert own.recipe_sha256 != older.recipe_sha256
    (eldest,) = Ancestry.read(parent.folder).generations
    assert (eldest.recipe_sha256, eldest.vocabulary_sha256) == (older.recipe_sha256, vocabulary.sha256)
    assert (eldest.weights_sha256, eldest.steps) == (None, None)


def test_it_contains_no_path_and_no_patient(grandchild):
    text = (grandchild.output / "ancestry.json").read_text()
    assert str(grandchild.output.parent) not in text
    assert "train0" not in text
    assert "tfrecord" not in text


def test_the_command_prints_all_generations(parent, grandchild, capsys):
    assert main(["ancestry", str(grandchild.output)]) == 0
    own, older = capsys.readouterr().out.split("\ninitialised from\n")
    assert own.startswith("ehr-bert training, 1 update\n  weights    ")
    assert older.startswith("ehr-bert training, 4 updates\n  weights    ")
    weights = read_pretrained(grandchild.output).sha256
    assert f"  weights    {weights}\n" in own
    # The learning rate is 0, so the weights are those of the parent.
    assert f"  weights    {weights}\n" in older
    assert "(23 patients, " in own


def test_resuming_changes_nothing(grandchild):
    before = Ancestry.read(grandchild.output)
    with fast_runs():
        pretrain(grandchild)
    assert Ancestry.read(grandchild.output) == before


def test_with_force_corpora_are_added_and_parents_are_kept(tmp_path):
    one, two = Corpus("1", 3, 30), Corpus("2", 4, 40, "B")
    older = Generation(HUGGING_FACE, "w")
    Ancestry((Generation(TRAINING, recipe_sha256="r", corpora=(one,)), older)).write(tmp_path)
    record_ancestry(tmp_path, Generation(TRAINING, recipe_sha256="s", corpora=(one, two)), None, resumed=True)
    own = Generation(TRAINING, recipe_sha256="s", corpora=(one, two))
    assert Ancestry.read(tmp_path).generations == (own, older)
    record_ancestry(tmp_path, Generation(TRAINING, corpora=(two,)), None, resumed=False)
    assert Ancestry.read(tmp_path).generations == (Generation(TRAINING, corpora=(two,)),)


def test_a_model_without_a_record_is_identified_by_its_weights(tmp_path):
    model = read_pretrained(training_folder(tmp_path / "D", trained_model()))
    (generation,) = ancestry_of(model).generations
    assert (generation.weights_sha256, generation.steps) == (model.sha256, 7)
    assert (generation.vocabulary_sha256, generation.tokens) == (VOCABULARY.sha256, len(VOCABULARY))


def test_unknown_values_are_left_out_of_the_file_and_printed_as_unknown(tmp_path):
    Ancestry((Generation(HUGGING_FACE),)).write(tmp_path)
    assert json.loads((tmp_path / "ancestry.json").read_text()) == {
        "generations": [{"origin": HUGGING_FACE, "corpora": []}]
    }
    assert str(Ancestry.read(tmp_path)).splitlines()[:2] == [HUGGING_FACE, "  weights    unknown"]
    assert not Ancestry.read(tmp_path / "nowhere").generations
