# Covers: ehr_bert.training.request
import dataclasses
import json
import logging
import math
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import torch
from transformers import BertForPreTraining

from ehr_bert.export.folder import export
from ehr_bert.model.config import ModelConfig
from ehr_bert.objectives.masked_codes import MaskedCodesSettings
from ehr_bert.objectives.prolonged_stay import ProlongedStaySettings
from ehr_bert.training import execution
from ehr_bert.training.execution import pretrain
from ehr_bert.training.inputs import FeatureSource
from ehr_bert.training.recipe import (
    EvaluationSettings,
    Phase,
    Recipe,
)
from ehr_bert.training.record.folder import load_model
from ehr_bert.training.request import PretrainingRequest
from ehr_bert.vocabulary import CodeCount, Vocabulary
from tests.training.continuing import fast_runs
from tests.training.small import (
    CODES,
    CONFIG,
    LENGTH,
    MASKED,
    ONE_STEP,
    PATIENTS,
    PHASE,
    RECIPE,
    random_patients,
    request_for,
    with_phase,
    write_examples,
    write_packed,
)
from tests.user_errors import raises_user_error, warning_keys


def with_objective(name, settings):
    return dataclasses.replace(RECIPE, objectives={name: settings})


@pytest.fixture(autouse=True, scope="module")
def no_measuring():
    with fast_runs():
        yield


def hugging_face_losses(exported: Path, file: Path) -> tuple[float, float]:
    """Return both losses of stock `BertForPreTraining` on a file, read as the original program does."""
    spec = {
        **{
            name: tf.io.FixedLenFeature([LENGTH], tf.int64)
            for name in ("input_ids", "input_mask", "segment_ids")
        },
        **{
            name: tf.io.FixedLenFeature([MASKED], tf.int64)
            for name in ("masked_lm_positions", "masked_lm_ids")
        },
        "masked_lm_weights": tf.io.FixedLenFeature([MASKED], tf.float32),
        "next_sentence_labels": tf.io.FixedLenFeature([1], tf.int64),
    }
    serialized = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    stored = {name: values.numpy() for name, values in tf.io.parse_example(serialized, spec).items()}
    labels = np.full_like(stored["input_ids"], -100)
    rows, places = np.nonzero(stored["masked_lm_weights"])
    labels[rows, stored["masked_lm_positions"][rows, places]] = stored["masked_lm_ids"][rows, places]
    model = BertForPreTraining.from_pretrained(exported).eval()
    with torch.no_grad():
        output = model(
            torch.tensor(stored["input_ids"]),
            attention_mask=torch.tensor(stored["input_mask"]),
            token_type_ids=torch.tensor(np.minimum(stored["segment_ids"], CONFIG.type_vocab_size - 1)),
        )
    cross_entropy = torch.nn.functional.cross_entropy
    return (
        float(cross_entropy(output.prediction_logits.flatten(0, 1), torch.tensor(labels).flatten())),
        float(
            cross_entropy(output.seq_relationship_logits, torch.tensor(stored["next_sentence_labels"][:, 0]))
        ),
    )


def test_the_reported_losses_equal_those_of_stock_bert_on_the_same_file(trained):
    evaluation = trained.outcome.evaluation
    export(trained.folder / "D", trained.folder / "H", min_patients=0)
    masked_lm_loss, stay_loss = hugging_face_losses(trained.folder / "H", trained.folder / "F")
    assert evaluation.patients == PATIENTS
    assert evaluation.objectives["masked_codes"].metrics["loss"] == pytest.approx(masked_lm_loss, abs=1e-4)
    assert evaluation.objectives["prolonged_stay"].metrics["loss"] == pytest.approx(stay_loss, abs=1e-4)
    assert evaluation.loss == pytest.approx(masked_lm_loss + stay_loss, abs=2e-4)


def test_a_training_writes_a_training_folder(trained):
    folder, outcome = trained.folder / "D", trained.outcome
    assert (outcome.steps, outcome.reason, outcome.reason.exit_code) == (6, "finished", 0)
    results = dict(line.split(" = ") for line in (folder / "eval_results.txt").read_text().splitlines())
    assert list(results) == [
        "global_step",
        "loss",
        "masked_lm_accuracy",
        "masked_lm_loss",
        "next_sentence_accuracy",
        "next_sentence_auroc",
        "next_sentence_loss",
    ]
    assert results["global_step"] == "6"
    sized = dataclasses.replace(CONFIG, vocab_size=CODES + 5)
    assert ModelConfig.from_dict(json.loads((folder / "config.json").read_text())) == sized
    assert Recipe.read(folder / "recipe.toml") == dataclasses.replace(RECIPE, model=sized)
    assert Vocabulary.read(folder / "vocabulary.tsv").tokens[5] == "ICD9_000"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 6, 6]
    assert list((folder / "events").iterdir())
    assert (folder / "summary.json").exists()


def test_a_training_logs_its_size_and_returns_its_result(once):
    assert re.search(
        r"pretraining on 23 patients: 45 tokens, ([\d,]+) parameters, float32 on 1 CPU\n", once.log
    )
    assert "\nphase 1 of 1: 6 updates of 5 patients (1.3 epochs), each 1 x 50 positions" in once.log
    assert once.warnings == ["no-held-out-examples"]
    assert once.outcome.checkpoint == once.folder / "D" / "model.ckpt-6"
    assert str(once.outcome).startswith(str(once.outcome.evaluation))
    assert str(once.outcome.summary) in str(once.outcome)


def test_packed_examples_are_trained_and_evaluated_on_separate_splits(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("ehr_bert.training.phases.MANY_EPOCHS", 2)
    recipe = dataclasses.replace(
        RECIPE,
        objectives={
            "masked_codes": MaskedCodesSettings(probability=0.4, mask_share=1.0, random_share=0.0),
            "prolonged_stay": ProlongedStaySettings(threshold_days=1),
        },
        phases=(Phase(batch_tokens=60, epochs=2.5, micro_batch_tokens=50, learning_rate=1e-2),),
        evaluation=EvaluationSettings(every_steps=4),
    )
    request = request_for(tmp_path, features=[write_packed(tmp_path, 7, 13)], recipe=recipe)
    outcome = pretrain(request)
    tokens = sum(len(ids) + 1 for *_, ids, _ in random_patients(CODES))
    assert outcome.steps == math.ceil(2.5 * tokens / 60)
    assert outcome.evaluation.patients == PATIENTS
    assert warning_keys(caplog) == ["many-epochs"]
    again = pretrain(dataclasses.replace(request, train=False))
    assert again.evaluation == outcome.evaluation


def test_each_phase_trains_on_the_features_of_its_length(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="ehr_bert")
    phases = tuple(dataclasses.replace(PHASE, max_seq_length=length, steps=2) for length in (7, 13))
    recipe = dataclasses.replace(RECIPE, phases=phases)
    features = [write_packed(tmp_path, 7, 13), write_packed(tmp_path, 7)]
    assert pretrain(request_for(tmp_path, features=features, recipe=recipe)).steps == 4
    examples = json.loads((tmp_path / "D" / "examples.json").read_text())["examples"]
    assert [info["max_seq_length"] for info in examples] == [7, 13]
    assert "phase 1 of 2: 2 updates" in caplog.text
    assert "phase 2 of 2: 2 updates" in caplog.text


def test_held_out_examples_are_evaluated_without_a_warning(trained, caplog):
    features = [FeatureSource([trained.folder / "F"], [write_examples(trained.folder, "held_out")])]
    recipe = dataclasses.replace(RECIPE, evaluation=EvaluationSettings(max_batches=2))
    request = request_for(trained.folder, features=features, recipe=recipe, eval_batch_size=4, train=False)
    assert 4 <= pretrain(request).evaluation.patients <= 8
    assert warning_keys(caplog) == []


def test_evaluation_without_training_gives_the_same_result(trained):
    again = pretrain(request_for(trained.folder, train=False))
    assert (again.steps, again.evaluation) == (6, trained.outcome.evaluation)


def test_only_the_worker_that_writes_records_an_evaluation(trained, monkeypatch):
    monkeypatch.setattr(execution, "is_chief", lambda strategy: False)
    metrics = request_for(trained.folder).output / "metrics.jsonl"
    before = metrics.read_text()
    assert pretrain(request_for(trained.folder, train=False)).evaluation == trained.outcome.evaluation
    assert metrics.read_text() == before


def test_a_window_longer_than_all_examples_changes_no_metric(trained):
    request = request_for(
        trained.folder, recipe=with_phase(max_seq_length=LENGTH), output=trained.folder / "other"
    )
    assert pretrain(request).evaluation == trained.outcome.evaluation


def test_masked_codes_past_the_limit_are_ignored(trained):
    figures = [
        pretrain(request_for(trained.folder, train=False, max_predictions_per_seq=most)).evaluation.figures()
        for most in (1, 2, 9)
    ]
    assert figures[0] != figures[1]
    assert figures[1] == figures[2] == trained.outcome.evaluation.figures()


def test_examples_without_cls_are_pooled_at_the_first_code(tmp_path, caplog):
    features = [FeatureSource([write_examples(tmp_path, med_bert=True)])]
    pretrain(request_for(tmp_path, features=features, recipe=ONE_STEP, evaluate=False))
    assert "no-cls-token" in warning_keys(caplog)
    assert json.loads((tmp_path / "D" / "config.json").read_text())["stay_pooling"] == "first"


def test_a_training_can_be_initialised_from_another_one(trained):
    phases = (dataclasses.replace(PHASE, steps=1, learning_rate=0.0),)
    frozen = dataclasses.replace(RECIPE, phases=phases, init=str(trained.folder / "D"))
    again = pretrain(request_for(trained.folder, recipe=frozen, output=trained.folder / "E")).evaluation
    assert again == dataclasses.replace(trained.outcome.evaluation, global_step=1)


@pytest.mark.parametrize(
    ("changes", "key", "mentioned"),
    [
        ({"train": False, "evaluate": False}, "nothing-to-do", ("--do_train",)),
        ({"train": False}, "no-checkpoint", ()),
        ({"recipe": dataclasses.replace(RECIPE, init="nowhere")}, "no-checkpoint", ("nowhere",)),
        (
            {"recipe": dataclasses.replace(RECIPE, model=dataclasses.replace(CONFIG, vocab_size=44))},
            "vocab-size-too-small",
            (44, 45),
        ),
        (
            {
                "recipe": Recipe(
                    model=dataclasses.replace(CONFIG, max_position_embeddings=9), phases=(Phase(steps=1),)
                )
            },
            "too-few-positions",
            ("10 tokens", "model.max_position_embeddings is 9", "phases.1.max_seq_length"),
        ),
        (
            {"recipe": with_objective("masked_codes", MaskedCodesSettings(probability=0.2))},
            "masking-fixed",
            ("masked_codes.probability is 0.2",),
        ),
        (
            {"recipe": with_objective("prolonged_stay", ProlongedStaySettings(threshold_days=3))},
            "stay-threshold-fixed",
            (3, 7),
        ),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_both_numbers(tmp_path, changes, key, mentioned):
    with raises_user_error(key, *mentioned):
        pretrain(request_for(tmp_path, **changes))


def sized(vocab_size: int | None) -> Recipe:
    return dataclasses.replace(ONE_STEP, model=dataclasses.replace(CONFIG, vocab_size=vocab_size))


def test_rows_past_the_vocabulary_are_unused(tmp_path):
    assert pretrain(request_for(tmp_path, recipe=sized(64))).evaluation
    assert json.loads((tmp_path / "D" / "config.json").read_text())["vocab_size"] == 64


def test_a_named_vocabulary_sets_the_size_and_must_match_the_examples(tmp_path):
    request = request_for(
        tmp_path, recipe=sized(99), vocabulary=tmp_path / "F.vocabulary.tsv", evaluate=False
    )
    pretrain(request)
    assert json.loads((tmp_path / "D" / "config.json").read_text())["vocab_size"] == 45
    Vocabulary.from_counts([CodeCount("other", 1, 1)]).write(tmp_path / "other.tsv")
    with raises_user_error("vocabulary-mismatch", "other.tsv", tmp_path / "F"):
        pretrain(dataclasses.replace(request, vocabulary=tmp_path / "other.tsv"))


def test_held_out_examples_of_another_vocabulary_are_refused(tmp_path):
    held_out = write_examples(tmp_path / "other", "V", codes=41)
    with raises_user_error("vocabulary-mismatch", tmp_path / "F", held_out):
        pretrain(request_for(tmp_path, features=[FeatureSource([write_examples(tmp_path)], [held_out])]))


def test_examples_of_the_original_program_need_a_vocabulary_or_its_size(tmp_path):
    features = [FeatureSource([write_examples(tmp_path)])]
    for sidecar in ("F.examples.json", "F.vocabulary.tsv"):
        (tmp_path / sidecar).unlink()
    with raises_user_error("missing-vocabulary"):
        pretrain(request_for(tmp_path, features=features, recipe=sized(None)))
    with raises_user_error("vocab-size-too-small", 12):
        pretrain(request_for(tmp_path, features=features, recipe=sized(12)))
    assert pretrain(request_for(tmp_path, features=features, recipe=sized(50))).evaluation


VIRTUAL_DEVICES = """
import logging, sys
from pathlib import Path
from ehr_bert.training.devices import Devices
from ehr_bert.objectives.masked_codes import MaskedCodesSettings
from ehr_bert.objectives.prolonged_stay import ProlongedStaySettings
from ehr_bert.training.execution import pretrain
from tests.training.test_execution import split_update

logging.basicConfig(level=logging.INFO)
pretrain(split_update(Path(sys.argv[1]), micro_batch_tokens=30, devices=Devices(2)))
"""


def split_update(folder: Path, micro_batch_tokens: int, **changes) -> PretrainingRequest:
    recipe = with_phase(steps=3, batch_patients=11, micro_batch_tokens=micro_batch_tokens)
    return request_for(
        folder, features=[write_packed(folder, 7, 13)], recipe=recipe, evaluate=False, **changes
    )


@pytest.mark.slow
@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="uses virtual CPU devices")
def test_two_devices_and_small_micro_batches_give_the_weights_of_one_device(tmp_path):
    pretrain(split_update(tmp_path / "one", micro_batch_tokens=1000))
    two = subprocess.run(
        [sys.executable, "-c", VIRTUAL_DEVICES, tmp_path / "two"], capture_output=True, text=True
    )
    assert "float32 on 2 CPUs" in two.stderr
    weights, others = (load_model(tmp_path / name / "D").trainable_variables for name in ("one", "two"))
    for ours, theirs in zip(weights, others, strict=True):
        np.testing.assert_allclose(theirs.numpy(), ours.numpy(), atol=1e-5, err_msg=ours.path)


def test_a_types_pickle_with_a_global_is_refused(trained):
    bad = trained.folder / "P.types"
    bad.write_bytes(pickle.dumps(np.arange(3)))
    with raises_user_error("unsafe-pickle", "numpy"):
        pretrain(request_for(trained.folder, vocabulary=bad))
    with raises_user_error("unsafe-pickle", "numpy"):
        export(trained.folder / "D", trained.folder / "H", vocabulary_file=bad)
