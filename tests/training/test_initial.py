import dataclasses
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from transformers import BertConfig, BertForPreTraining, BertModel

from ehr_bert.examples.packed import PackedSettings
from ehr_bert.examples.reading import expand
from ehr_bert.examples.writing import write_folder
from ehr_bert.export.folder import export
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.pretraining import build_model
from ehr_bert.training.execution import pretrain
from ehr_bert.training.initial import inherited_shape, initialise_from, read_pretrained
from ehr_bert.training.inputs import FeatureSource
from ehr_bert.training.record.folder import TrainingFolder, load_model
from ehr_bert.vocabulary import CodeCount, Vocabulary
from ehr_bert.weights.pretrained import Pretrained
from tests.export.small import CODES, VOCABULARY, trained_model, training_folder
from tests.model.small import LAYOUT, SMALL, random_batch
from tests.training.continuing import continued, fast_runs, recipe_of
from tests.training.small import CODES as RUN_CODES
from tests.training.small import CONFIG, write_packed
from tests.user_errors import raises_user_error
from tests.weights import published

NEW = ("ICD10_E28", "ICD10_Z9", "ICD10_E03")


@pytest.fixture(autouse=True, scope="module")
def no_measuring():
    with fast_runs():
        yield


def test_with_the_same_vocabulary_the_held_out_loss_equals_that_of_the_parent(parent, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="ehr_bert")
    export(parent.folder, tmp_path / "H", min_patients=0)
    loss = parent.outcome.evaluation.loss
    exported = pretrain(continued(parent.request, tmp_path / "E", tmp_path / "H", train=False)).evaluation
    assert exported.loss == pytest.approx(loss, abs=1e-6)
    caplog.clear()
    again = pretrain(continued(parent.request, tmp_path / "E", parent.folder)).evaluation
    out = caplog.text
    assert again.loss == pytest.approx(loss, abs=1e-6)
    assert f"initialised from {parent.folder / 'model.ckpt-4'}: 49 of 49 tokens" in out
    assert "unknown codes in the corpus: 0.00% with the vocabulary of that model, 0.00%" in out
    assert out.index("after 0 steps") < out.index("pretraining on")


def test_a_training_is_named_by_its_folder_its_best_or_a_checkpoint(parent):
    models = [read_pretrained(parent.folder / name) for name in ("", "best", "model.ckpt-4")]
    assert {model.sha256 for model in models} == {models[0].sha256}
    assert {model.source for model in models} == {parent.folder / "model.ckpt-4"}


def test_a_recipe_without_a_shape_takes_that_of_the_parent_and_resumes_without_it(parent, tmp_path):
    moved = shutil.copytree(parent.folder, tmp_path / "moved")
    request = continued(parent.request, tmp_path / "E", moved, evaluate=False)
    pretrain(request)
    assert TrainingFolder(tmp_path / "E").config() == TrainingFolder(parent.folder).config()
    shutil.rmtree(moved)
    assert pretrain(request).steps == 1


def test_another_shape_is_refused_with_the_differing_keys(parent, tmp_path):
    shape = dataclasses.replace(CONFIG, hidden_size=24, max_position_embeddings=99)
    recipe = recipe_of(init=str(parent.folder), model=shape)
    mentioned = ("hidden_size 12 instead of 24", "max_position_embeddings 17 instead of 99")
    with raises_user_error("shape-mismatch", *mentioned):
        pretrain(continued(parent.request, tmp_path / "E", parent.folder, recipe=recipe))
    assert not (tmp_path / "E").exists()


def with_new_codes(folder: Path) -> FeatureSource:
    """Write examples of the same patients with a vocabulary of other codes in another order."""
    write_packed(folder, 7, 13)
    sequences = folder / "sequences"
    old = Vocabulary.read(sequences / "vocabulary.tsv")
    codes = [old.tokens[index] for index in old.code_ids]
    renamed = [*codes[:-4], "ICD10_A00", "ICD9_000.1", "ICD9_001.1", "ICD10_B01"]
    counts = [CodeCount(code, 3, 5) for code in renamed]
    Vocabulary.from_counts(counts).write(sequences / "vocabulary.tsv")
    write_folder(sequences, folder / "new", PackedSettings(seed=0, window_lengths=(7, 13)), shards=1)
    return FeatureSource(*(expand(f"{folder}/new/{split}-*.tfrecord") for split in ("train", "valid")))


def test_rows_of_new_codes_are_initialised_and_reported(parent, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="ehr_bert")
    features = [with_new_codes(tmp_path)]
    pretrain(continued(parent.request, tmp_path / "E", parent.folder, features=features, evaluate=False))
    out = caplog.text
    assert "41 of 45 tokens keep their embedding\n  4 new codes, such as ICD10_A00, start from" in out
    assert "\n  4 codes of that model are not in the vocabulary\n" in out
    assert "10.00% with the vocabulary of that model, 0.00% with this one\n" in out
    old, new = (TrainingFolder(path).vocabulary() for path in (parent.folder, tmp_path / "E"))
    before, after = (load_model(path).output_table() for path in (parent.folder, tmp_path / "E"))
    for theirs, ours in zip(before, after, strict=True):
        for code in set(old.tokens) & set(new.tokens):
            np.testing.assert_array_equal(ours.numpy()[new.ids[code]], theirs.numpy()[old.ids[code]])


def test_unknown_codes_of_the_examples_themselves_are_counted(parent, tmp_path):
    features = with_new_codes(tmp_path)
    sidecar = tmp_path / "new" / "examples.json"
    content = json.loads(sidecar.read_text())
    codes = sum(facts["codes"] for name, facts in content["files"].items() if name.startswith("train"))
    for facts in content["files"].values():
        facts["codes"] -= facts["codes"] // 4
    known = sum(facts["codes"] for name, facts in content["files"].items() if name.startswith("train"))
    sidecar.write_text(json.dumps(content))
    vocabulary = Vocabulary.read(tmp_path / "sequences" / "vocabulary.tsv")
    model = build_model(dataclasses.replace(CONFIG, vocab_size=len(vocabulary)), seed=0)
    initialisation = initialise_from(
        read_pretrained(parent.folder), model, vocabulary, 4, 2, "mean", features.train
    )
    assert initialisation.unknown.after == pytest.approx(1 - known / codes)
    assert initialisation.unknown.before == pytest.approx(1 - 0.9 * known / codes)


@pytest.mark.parametrize("new_codes", ["category", "mean", "random"])
def test_predictions_among_old_codes_are_unchanged(tmp_path, new_codes):
    """The new codes are in another order, and another id hides them."""
    model = trained_model()
    parent = read_pretrained(training_folder(tmp_path / "D", model, mask_id=0))
    codes = np.random.default_rng(0).permutation([*CODES, *NEW])
    vocabulary = Vocabulary.from_counts(CodeCount(code, 99 - place, 1) for place, code in enumerate(codes))
    child = build_model(dataclasses.replace(SMALL, vocab_size=len(vocabulary)), seed=3)
    initialise_from(
        parent, child, vocabulary, vocabulary.ids["[MASK]"], vocabulary.ids["[CLS]"], new_codes, ()
    )
    batch = random_batch()
    translation = np.array([vocabulary.ids[token] for token in VOCABULARY.tokens])
    theirs, ours = translation[batch["token_ids"]], dict(batch)
    hidden = batch["masked_places"][batch["masked_weights"] > 0]
    batch["token_ids"][hidden], theirs[hidden] = 0, vocabulary.ids["[MASK]"]
    ours["token_ids"] = theirs
    expected, actual = model(batch, layout=LAYOUT), child(ours, layout=LAYOUT)
    used = batch["masked_weights"] > 0
    np.testing.assert_allclose(
        softmax(actual["masked_lm_logits"].numpy()[used][:, translation[5:]], axis=1),
        softmax(expected["masked_lm_logits"].numpy()[used][:, 5:], axis=1),
        atol=1e-6,
    )
    used = batch["patient_weights"] > 0
    np.testing.assert_allclose(actual["stay_logits"][used], expected["stay_logits"][used], atol=1e-6)


STOCK = BertConfig(
    vocab_size=RUN_CODES + 8,
    hidden_size=12,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=12,
    max_position_embeddings=19,
    hidden_act="gelu_new",
)


def logits(folder: Path) -> list[np.ndarray]:
    model = BertForPreTraining.from_pretrained(folder).eval()
    ids = torch.arange(2 * 9).reshape(2, 9) + 3
    with torch.no_grad():
        output = model(ids, token_type_ids=ids % 2)
    return [output.prediction_logits.numpy(), output.seq_relationship_logits.numpy()]


def test_a_stock_transformers_folder_is_trained_and_exported_with_equal_logits(parent, tmp_path):
    torch.manual_seed(0)
    BertForPreTraining(STOCK).save_pretrained(tmp_path / "stock")
    pretrain(continued(parent.request, tmp_path / "E", tmp_path / "stock", evaluate=False))
    export(tmp_path / "E", tmp_path / "back", min_patients=0)
    for theirs, ours in zip(logits(tmp_path / "stock"), logits(tmp_path / "back"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_heads_that_are_missing_in_the_parent_stay_random_and_are_reported(tmp_path):
    BertModel(STOCK).save_pretrained(tmp_path)
    parent = read_pretrained(tmp_path)
    model, untouched = (build_model(parent.config, seed=4) for _ in range(2))
    message = str(initialise_from(parent, model, VOCABULARY, 4, 2, "category", ()))
    assert "48 of 48 tokens keep their embedding, matched by id" in message
    assert "initialised at random: masked_codes/bias, masked_codes/norm/beta, masked_codes/" in message
    np.testing.assert_array_equal(model.stay.relationship.kernel, untouched.stay.relationship.kernel)
    assert np.abs(model.stay.pooler.kernel - untouched.stay.pooler.kernel).max() > 0


def test_the_requested_shape_is_kept_except_for_equal_rows():
    pretrained = Pretrained(SMALL, {}, Path("parent"), VOCABULARY)
    assert inherited_shape(ModelConfig(), pretrained, VOCABULARY) == SMALL
    other = Vocabulary.from_counts([CodeCount("A", 1, 1)])
    assert inherited_shape(ModelConfig(), pretrained, other) == dataclasses.replace(SMALL, vocab_size=None)
    stated = ModelConfig(vocab_size=77)
    assert inherited_shape(stated, pretrained, other) == dataclasses.replace(SMALL, vocab_size=77)
    shaped = ModelConfig(hidden_size=12)
    assert inherited_shape(shaped, pretrained, other) == shaped


def test_an_empty_folder_is_refused(tmp_path):
    with raises_user_error("no-checkpoint", tmp_path):
        read_pretrained(tmp_path)


def test_a_checkpoint_is_read_with_the_meaning_of_its_ids(tmp_path):
    model = trained_model()
    pretrained = read_pretrained(training_folder(tmp_path / "D", model, mask_id=0, cls_id=None))
    assert pretrained.config == SMALL
    assert (pretrained.vocabulary, pretrained.mask_id, pretrained.cls_id) == (VOCABULARY, 0, None)
    assert not pretrained.missing
    for variable in model.weights:
        np.testing.assert_array_equal(pretrained.weights[variable.path.partition("/")[2]], variable.numpy())


def test_a_published_checkpoint_initialises_a_model_with_current_tokens(tmp_path):
    """Med-BERT hides codes by id 0 and has no `[CLS]`."""
    weights = published.random_weights(published.MED_BERT)
    prefix = published.med_bert(tmp_path / "med_bert", weights)
    parent = read_pretrained(Path(prefix))
    vocabulary = Vocabulary.from_counts(
        CodeCount(code, place, 1) for place, code in enumerate([*published.CODES, "ICD9_105.9"], 1)
    )
    config = inherited_shape(ModelConfig(), parent, vocabulary)
    child = build_model(dataclasses.replace(config, vocab_size=len(vocabulary)), seed=0)
    initialise_from(
        parent, child, vocabulary, vocabulary.ids["[MASK]"], vocabulary.ids["[CLS]"], "category", ()
    )
    table = child.output_table()[0].numpy()
    theirs = weights["bert/embeddings/word_embeddings"]
    for code in published.CODES:
        np.testing.assert_array_equal(table[vocabulary.ids[code]], theirs[published.TYPES[code]])
    np.testing.assert_array_equal(table[vocabulary.ids["[MASK]"]], theirs[0])
    np.testing.assert_array_equal(table[vocabulary.ids["ICD9_105.9"]], theirs[published.TYPES["ICD9_105.5"]])
    assert config.hidden_act == "gelu_new"
