# Covers: ehr_bert.training.inputs
import dataclasses
import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ehr_bert.examples.packed import PackedSettings
from ehr_bert.examples.writing import write_folder
from ehr_bert.training.execution import pretrain
from ehr_bert.training.inputs import FeatureSource, open_inputs
from ehr_bert.training.recipe import Checkpointing, EvaluationSettings, Phase, Recipe
from ehr_bert.training.record.folder import load_model
from ehr_bert.training.request import PretrainingRequest
from tests.training.continuing import fast_runs
from tests.training.small import CODES, PATIENTS, RECIPE, request_for, vocabulary_of, write_packed
from tests.user_errors import raises_user_error

MIXED = Phase(
    max_seq_length=13, batch_patients=20, steps=23, learning_rate=1e-3, mixture={"B": 3.0, "A": 1.0}
)
ON_B = Phase(max_seq_length=13, batch_tokens=60, steps=3, learning_rate=1e-3, mixture={"B": 1.0})
TWO_PHASES = dataclasses.replace(
    RECIPE,
    phases=(MIXED, ON_B),
    evaluation=EvaluationSettings(corpus="B"),
    checkpoints=Checkpointing(every_steps=9, keep=9),
)


@pytest.fixture(autouse=True, scope="module")
def no_measuring():
    with fast_runs():
        yield


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> list[FeatureSource]:
    """Write two corpora: A packed in windows of two lengths and B of one."""
    folder = tmp_path_factory.mktemp("corpora")
    return [
        dataclasses.replace(write_packed(folder / name, *lengths), name=name)
        for name, lengths in (("A", (7, 13)), ("B", (13,)))
    ]


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_corpora_are_mixed_as_requested_and_counted_by_phase(tmp_path, features, caplog):
    caplog.set_level(logging.INFO, logger="ehr_bert")
    request = request_for(tmp_path, features=features, recipe=TWO_PHASES)
    outcome = pretrain(request)
    assert outcome.steps == 26
    mixture = json.loads((tmp_path / "D" / "summary.json").read_text())["mixture"]
    assert list(mixture) == ["1"]
    of_a, of_b = mixture["1"]["A"], mixture["1"]["B"]
    assert (of_a["asked"], of_b["asked"]) == (0.25, 0.75)
    assert of_a["patients"] == 5 * PATIENTS  # 23 updates of 5: whole epochs
    assert of_b["patients"] == 15 * PATIENTS
    assert of_a["realised"] == 0.25
    assert of_b["real_tokens"] == 3 * of_a["real_tokens"]
    reported = sum(line.get("train/mixture/1/B/patients", 0) for line in metrics(tmp_path / "D"))
    assert reported == of_b["patients"]
    assert "pretraining on 46 patients" in caplog.text
    assert "mixture: 25.0% A (5.0 epochs), 75.0% B (15.0 epochs)\n" in caplog.text
    assert "25.00% A (25.00%), 75.00% B (75.00%)" in str(outcome)
    examples = json.loads((tmp_path / "D" / "examples.json").read_text())
    assert [info["corpus"] for info in examples["examples"]] == ["A", "B"]
    assert [Path(path).parents[1].name for path in examples["paths"]] == ["B"]

    (tmp_path / "D" / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-18"')
    again = pretrain(request)
    assert again.evaluation == outcome.evaluation
    assert json.loads((tmp_path / "D" / "summary.json").read_text())["mixture"] == mixture


def test_held_out_patients_are_those_of_the_named_corpus(features):
    for corpus, files in (("A", 2), ("B", 1)):
        recipe = dataclasses.replace(TWO_PHASES, evaluation=EvaluationSettings(corpus=corpus))
        inputs = open_inputs(recipe, features)
        assert len(inputs.held_out.info.files) == files
        assert all(name.startswith("valid-") for name in inputs.held_out.info.files)
        assert not inputs.evaluates_training


def test_a_corpus_is_taken_at_the_length_of_each_phase(tmp_path, features):
    short = dataclasses.replace(write_packed(tmp_path, 7), name="A")
    phases = tuple(dataclasses.replace(MIXED, mixture={"A": 1}, max_seq_length=length) for length in (7, 13))
    inputs = open_inputs(dataclasses.replace(RECIPE, phases=phases), [*features, short])
    assert [(name, info.max_seq_length) for name, info in inputs.corpora] == [("A", 7), ("A", 13)]


VIRTUAL_DEVICES = """
import logging, sys
from pathlib import Path
from ehr_bert.training.devices import Devices
from ehr_bert.training.execution import pretrain
from tests.training.test_mixing import split_mixture

logging.basicConfig(level=logging.INFO)
pretrain(split_mixture(Path(sys.argv[1]), micro_batch_tokens=60, devices=Devices(2)))
"""


def split_mixture(folder: Path, micro_batch_tokens: int, **changes) -> PretrainingRequest:
    """Return a request with a phase on a mixture, and one that resets the moments."""
    phases = tuple(
        dataclasses.replace(phase, steps=3, micro_batch_tokens=micro_batch_tokens, carry_over=carry_over)
        for phase, carry_over in ((MIXED, "moments"), (ON_B, "weights"))
    )
    corpora = [dataclasses.replace(write_packed(folder / name, 13), name=name) for name in ("A", "B")]
    recipe = dataclasses.replace(TWO_PHASES, phases=phases)
    return request_for(folder, features=corpora, recipe=recipe, evaluate=False, **changes)


@pytest.mark.slow
@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="uses virtual CPU devices")
def test_two_devices_and_small_micro_batches_mix_and_train_as_one_device(tmp_path):
    pretrain(split_mixture(tmp_path / "one", micro_batch_tokens=1000))
    two = subprocess.run(
        [sys.executable, "-c", VIRTUAL_DEVICES, tmp_path / "two"], capture_output=True, text=True
    )
    assert "float32 on 2 CPUs" in two.stderr
    one, other = (
        json.loads((tmp_path / name / "D" / "summary.json").read_text())["mixture"] for name in ("one", "two")
    )
    assert one == other
    weights, others = (load_model(tmp_path / name / "D").trainable_variables for name in ("one", "two"))
    for ours, theirs in zip(weights, others, strict=True):
        np.testing.assert_allclose(theirs.numpy(), ours.numpy(), atol=1e-5, err_msg=ours.path)


def other_vocabulary(folder: Path) -> FeatureSource:
    write_packed(folder, 13)
    vocabulary_of(CODES + 1).write(folder / "sequences" / "vocabulary.tsv")
    write_folder(folder / "sequences", folder / "F13", PackedSettings(seed=0, window_lengths=(13,)), shards=1)
    return FeatureSource(sorted((folder / "F13").glob("train-*")), name="C")


def test_corpora_with_different_vocabularies_are_refused_by_name(tmp_path, features):
    with raises_user_error("vocabulary-mismatch", "A and C"):
        open_inputs(TWO_PHASES, [*features, other_vocabulary(tmp_path)])


@pytest.mark.parametrize(
    ("recipe", "key", "mentioned"),
    [
        (
            dataclasses.replace(RECIPE, phases=(dataclasses.replace(MIXED, mixture={"C": 1}),)),
            "unknown-corpus",
            ("phases.1.mixture names the corpus C", "A, B", "--features C=FOLDER"),
        ),
        (
            dataclasses.replace(TWO_PHASES, evaluation=EvaluationSettings(corpus="C")),
            "unknown-corpus",
            ("evaluation.corpus names the corpus C", "--features C=FOLDER"),
        ),
        (
            dataclasses.replace(RECIPE, phases=(Phase(max_seq_length=13),)),
            "missing-mixture",
            ("phases.1", "A, B"),
        ),
    ],
)
def test_a_mixture_of_missing_corpora_is_refused(features, recipe: Recipe, key, mentioned):
    with raises_user_error(key, *mentioned):
        open_inputs(recipe, features)


def test_unnamed_features_are_in_no_mixture(features):
    unnamed = [dataclasses.replace(source, name="") for source in features]
    with raises_user_error("unknown-corpus", "no named corpus"):
        open_inputs(TWO_PHASES, unnamed)
    of_one_length = dataclasses.replace(RECIPE, phases=(Phase(max_seq_length=13),))
    with raises_user_error("window-length-mismatch", "13, 13"):
        open_inputs(of_one_length, unnamed)
