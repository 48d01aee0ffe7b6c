import dataclasses
import json
import logging
import math
import pickle
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import torch
from _pytest.logging import LogCaptureHandler
from transformers import BertForPreTraining

from ehr_bert.errors import UserError
from ehr_bert.examples.packed import PackedSettings
from ehr_bert.examples.reading import expand
from ehr_bert.examples.tutorial import TutorialSettings
from ehr_bert.examples.writing import write_files, write_folder
from ehr_bert.export.folder import export
from ehr_bert.logs import log_level
from ehr_bert.model.config import ModelConfig
from ehr_bert.pickles import read_bencs, write_pickles
from ehr_bert.schemas import SEQUENCES
from ehr_bert.training.execution import PretrainingResult, pretrain
from ehr_bert.training.flops import ProductRate
from ehr_bert.training.inputs import FeatureSource
from ehr_bert.training.recipe import (
    Checkpointing,
    EvaluationSettings,
    MaskedCodes,
    Phase,
    ProlongedStay,
    Recipe,
)
from ehr_bert.training.record.folder import load_model
from ehr_bert.training.request import PretrainingRequest
from ehr_bert.vocabulary import CodeCount, Vocabulary
from tests.user_errors import raises_user_error, warning_keys

LENGTH, MASKED, CODES, PATIENTS = 11, 2, 40, 23
CONFIG = ModelConfig(
    hidden_size=12,
    num_hidden_layers=1,
    num_attention_heads=3,
    intermediate_size=5,
    max_position_embeddings=17,
    type_vocab_size=6,
)
PHASE = Phase(max_seq_length=17, batch_patients=5, steps=6, warmup_steps=2, learning_rate=1e-2)
RECIPE = Recipe(model=CONFIG, phases=(PHASE,), compile=False, report_every=4)
ONE_STEP = dataclasses.replace(RECIPE, phases=(dataclasses.replace(PHASE, steps=1),))


def vocabulary_of(codes: int) -> Vocabulary:
    return Vocabulary.from_counts(CodeCount(f"ICD9_{code:03}", 1, 1) for code in range(codes))


def random_patients(codes: int) -> list[list]:
    """Patients of up to nine codes in up to four visits, as the tutorial's records."""
    rng = np.random.default_rng(0)
    records = []
    for patient in range(PATIENTS):
        visits = np.sort(rng.integers(0, 4, rng.integers(1, 10)))
        visits = np.unique(visits, return_inverse=True)[1] + 1
        stays = [int(stay) for stay in rng.choice([1, 2, 9], visits.max())]
        ids = rng.integers(5, codes + 5, len(visits)).tolist()
        records.append([patient, stays, [0] * len(stays), ids, visits.tolist()])
    return records


def write_examples(folder: Path, name: str = "F", med_bert: bool = False, codes: int = CODES) -> Path:
    """The tutorial's examples of all patients."""
    folder.mkdir(exist_ok=True)
    write_pickles(folder / "P.bencs.train", [random_patients(codes)])
    settings = TutorialSettings(LENGTH, MASKED, 0.3, seed=0, med_bert=med_bert)
    write_files(read_bencs(folder / "P.bencs.train"), "P", vocabulary_of(codes), settings, [folder / name])
    return folder / name


def write_packed(folder: Path, *lengths: int) -> FeatureSource:
    """Packed examples of all patients, for training and for evaluation alike."""
    sequences = folder / "sequences"
    for split in ("train", "valid"):
        records = random_patients(CODES)
        nothing = [[0] * len(stays) for _, stays, *_ in records]
        columns = [
            [f"{split}{patient}" for patient, *_ in records],
            [ids for *_, ids, _ in records],
            [visits for *_, visits in records],
            [[date(2000, 1, 1)] * len(stays) for _, stays, *_ in records],
            [stays for _, stays, *_ in records],
            nothing,
        ]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SEQUENCES, strict=True)]
        (sequences / "sequences" / split).mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_arrays(arrays, schema=SEQUENCES)
        pq.write_table(table, sequences / "sequences" / split / "0.parquet")
    vocabulary_of(CODES).write(sequences / "vocabulary.tsv")
    output = folder / f"F{lengths[-1]}"
    write_folder(sequences, output, PackedSettings(seed=0, window_lengths=lengths), shards=1)
    return FeatureSource(expand(f"{output}/train-*.tfrecord"), expand(f"{output}/valid-*.tfrecord"))


def asked(folder: Path, **changes) -> PretrainingRequest:
    features = changes.pop("features", None) or [FeatureSource([write_examples(folder)])]
    return PretrainingRequest(**{"features": features, "output": folder / "D", "recipe": RECIPE} | changes)


def with_phase(**changes) -> Recipe:
    return dataclasses.replace(RECIPE, phases=(dataclasses.replace(PHASE, **changes),))


@pytest.fixture(autouse=True, scope="module")
def no_measuring():
    """How fast a machine multiplies is measured once a training, which takes longer than these trainings."""
    with pytest.MonkeyPatch.context() as patch:
        rate = ProductRate(flops_per_second=1e12, shape=(1, 1, 1), compiled=False)
        patch.setattr("ehr_bert.training.summary.measured_flops_per_second", lambda *_: rate)
        yield


@dataclasses.dataclass(frozen=True)
class Trained:
    folder: Path  # as `asked` wants it
    outcome: PretrainingResult
    log: str
    warnings: list[str]


@pytest.fixture(scope="module")
def once(tmp_path_factory, no_measuring) -> Trained:
    """One training, for all tests that need one."""
    folder = tmp_path_factory.mktemp("trained")
    handler = LogCaptureHandler()
    logger = logging.getLogger("ehr_bert")
    logger.addHandler(handler)
    with log_level(logging.INFO):
        outcome = pretrain(asked(folder))
    logger.removeHandler(handler)
    keys = [record.key for record in handler.records if hasattr(record, "key")]
    return Trained(folder, outcome, handler.stream.getvalue(), keys)


@pytest.fixture
def trained(tmp_path, once) -> Trained:
    """A copy of that training."""
    shutil.copytree(once.folder, tmp_path, dirs_exist_ok=True)
    return dataclasses.replace(once, folder=tmp_path)


def hugging_face_losses(exported: Path, file: Path) -> tuple[float, float]:
    """Both losses of stock `BertForPreTraining`, on a file parsed by the original's fixed-length spec."""
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
        found = model(
            torch.tensor(stored["input_ids"]),
            attention_mask=torch.tensor(stored["input_mask"]),
            token_type_ids=torch.tensor(np.minimum(stored["segment_ids"], CONFIG.type_vocab_size - 1)),
        )
    cross_entropy = torch.nn.functional.cross_entropy
    return (
        float(cross_entropy(found.prediction_logits.flatten(0, 1), torch.tensor(labels).flatten())),
        float(
            cross_entropy(found.seq_relationship_logits, torch.tensor(stored["next_sentence_labels"][:, 0]))
        ),
    )


def test_the_losses_it_reports_are_those_of_stock_bert_from_the_same_file(trained):
    evaluation = trained.outcome.evaluation
    export(trained.folder / "D", trained.folder / "H", min_patients=0)
    masked_lm_loss, stay_loss = hugging_face_losses(trained.folder / "H", trained.folder / "F")
    assert evaluation.patients == PATIENTS
    assert evaluation.masked_codes.loss == pytest.approx(masked_lm_loss, abs=1e-4)
    assert evaluation.prolonged_stay.loss == pytest.approx(stay_loss, abs=1e-4)
    assert evaluation.loss == pytest.approx(masked_lm_loss + stay_loss, abs=2e-4)


def test_a_run_leaves_a_training_folder(trained):
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


def test_packed_examples_are_trained_and_evaluated_on_their_own_splits(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("ehr_bert.training.phases.MANY_EPOCHS", 2)
    recipe = dataclasses.replace(
        RECIPE,
        masked_codes=MaskedCodes(probability=0.4, mask_share=1.0, random_share=0.0),
        prolonged_stay=ProlongedStay(threshold_days=1),
        phases=(Phase(batch_tokens=60, epochs=2.5, micro_batch_tokens=50, learning_rate=1e-2),),
        evaluation=EvaluationSettings(every_steps=4),
    )
    wanted = asked(tmp_path, features=[write_packed(tmp_path, 7, 13)], recipe=recipe)
    outcome = pretrain(wanted)
    tokens = sum(len(ids) + 1 for *_, ids, _ in random_patients(CODES))
    assert outcome.steps == math.ceil(2.5 * tokens / 60)
    assert outcome.evaluation.patients == PATIENTS
    assert warning_keys(caplog) == ["many-epochs"]
    again = pretrain(dataclasses.replace(wanted, train=False))
    assert again.evaluation == outcome.evaluation


def test_each_phase_trains_on_the_features_of_its_length(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="ehr_bert")
    phases = tuple(dataclasses.replace(PHASE, max_seq_length=length, steps=2) for length in (7, 13))
    recipe = dataclasses.replace(RECIPE, phases=phases)
    features = [write_packed(tmp_path, 7, 13), write_packed(tmp_path, 7)]
    assert pretrain(asked(tmp_path, features=features, recipe=recipe)).steps == 4
    told = json.loads((tmp_path / "D" / "examples.json").read_text())
    assert [info["max_seq_length"] for info in told["examples"]] == [7, 13]
    assert "phase 1 of 2: 2 updates" in caplog.text
    assert "phase 2 of 2: 2 updates" in caplog.text


def test_held_out_examples_are_evaluated_without_a_warning(trained, caplog):
    features = [FeatureSource([trained.folder / "F"], [write_examples(trained.folder, "held_out")])]
    recipe = dataclasses.replace(RECIPE, evaluation=EvaluationSettings(max_batches=2))
    wanted = asked(trained.folder, features=features, recipe=recipe, eval_batch_size=4, train=False)
    assert 4 <= pretrain(wanted).evaluation.patients <= 8
    assert warning_keys(caplog) == []


def test_evaluation_alone_gives_the_figures_of_before(trained):
    again = pretrain(asked(trained.folder, train=False))
    assert (again.steps, again.evaluation) == (6, trained.outcome.evaluation)


def test_a_window_longer_than_all_examples_changes_no_figure(trained):
    wanted = asked(trained.folder, recipe=with_phase(max_seq_length=LENGTH), output=trained.folder / "other")
    assert pretrain(wanted).evaluation == trained.outcome.evaluation


def test_masked_codes_beyond_the_first_few_do_not_count(trained):
    figures = [
        pretrain(asked(trained.folder, train=False, max_predictions_per_seq=most)).evaluation.masked_codes
        for most in (1, 2, 9)
    ]
    assert figures[0] != figures[1]
    assert figures[1] == figures[2] == trained.outcome.evaluation.masked_codes


def test_examples_without_cls_are_pooled_at_their_first_code(tmp_path, caplog):
    features = [FeatureSource([write_examples(tmp_path, med_bert=True)])]
    pretrain(asked(tmp_path, features=features, recipe=ONE_STEP, evaluate=False))
    assert "no-cls-token" in warning_keys(caplog)
    assert json.loads((tmp_path / "D" / "config.json").read_text())["stay_pooling"] == "first"


def test_the_first_weights_can_come_from_another_training(trained):
    phases = (dataclasses.replace(PHASE, steps=1, learning_rate=0.0),)
    still = dataclasses.replace(RECIPE, phases=phases, init=str(trained.folder / "D"))
    again = pretrain(asked(trained.folder, recipe=still, output=trained.folder / "E")).evaluation
    assert again == dataclasses.replace(trained.outcome.evaluation, global_step=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": False, "evaluate": False}, "nothing to do"),
        ({"train": False}, "holds no checkpoint"),
        ({"recipe": dataclasses.replace(RECIPE, init="nowhere")}, "nowhere holds no checkpoint"),
        (
            {"recipe": dataclasses.replace(RECIPE, model=dataclasses.replace(CONFIG, vocab_size=44))},
            "vocab_size is 44, .* has 45 tokens",
        ),
        (
            {
                "recipe": Recipe(
                    model=dataclasses.replace(CONFIG, max_position_embeddings=9), phases=(Phase(steps=1),)
                )
            },
            "up to 10 tokens, over model.max_position_embeddings, which is 9: .* phases.1.max_seq_length",
        ),
        (
            {"recipe": dataclasses.replace(RECIPE, masked_codes=MaskedCodes(probability=0.2))},
            "masked_codes.probability is 0.2, and the tutorial's examples were masked when they were written",
        ),
        (
            {"recipe": dataclasses.replace(RECIPE, prolonged_stay=ProlongedStay(threshold_days=3))},
            "written for 7",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_both_numbers(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        pretrain(asked(tmp_path, **changes))


def sized(vocab_size: int | None) -> Recipe:
    return dataclasses.replace(ONE_STEP, model=dataclasses.replace(CONFIG, vocab_size=vocab_size))


def test_more_rows_than_the_vocabulary_has_are_left_unused(tmp_path):
    assert pretrain(asked(tmp_path, recipe=sized(64))).evaluation
    assert json.loads((tmp_path / "D" / "config.json").read_text())["vocab_size"] == 64


def test_a_named_vocabulary_sets_the_size_and_must_be_the_examples_own(tmp_path):
    wanted = asked(tmp_path, recipe=sized(99), vocabulary=tmp_path / "F.vocabulary.tsv", evaluate=False)
    pretrain(wanted)
    assert json.loads((tmp_path / "D" / "config.json").read_text())["vocab_size"] == 45
    Vocabulary.from_counts([CodeCount("other", 1, 1)]).write(tmp_path / "other.tsv")
    with pytest.raises(UserError, match=r"is not the vocabulary that .*F was made with"):
        pretrain(dataclasses.replace(wanted, vocabulary=tmp_path / "other.tsv"))


def test_held_out_examples_of_another_vocabulary_are_refused(tmp_path):
    held_out = write_examples(tmp_path / "other", "V", codes=41)
    with pytest.raises(UserError, match=r"F and .*V were made with different vocabularies"):
        pretrain(asked(tmp_path, features=[FeatureSource([write_examples(tmp_path)], [held_out])]))


def test_the_original_program_s_examples_need_a_vocabulary_or_its_size(tmp_path):
    features = [FeatureSource([write_examples(tmp_path)])]
    for sidecar in ("F.examples.json", "F.vocabulary.tsv"):
        (tmp_path / sidecar).unlink()
    with pytest.raises(UserError, match="come without a vocabulary"):
        pretrain(asked(tmp_path, features=features, recipe=sized(None)))
    with pytest.raises(UserError, match="vocab_size is 12"):
        pretrain(asked(tmp_path, features=features, recipe=sized(12)))
    assert pretrain(asked(tmp_path, features=features, recipe=sized(50))).evaluation


def test_a_folder_that_holds_another_training_is_refused_by_the_key_that_differs(trained):
    def assert_refused(*mentioned: str, **changes) -> None:
        with raises_user_error("output-of-other-settings", trained.folder / "D", *mentioned):
            pretrain(asked(trained.folder, **changes))

    rate = "phases.1.learning_rate is 0.01, not 0.02"
    assert_refused(rate, "recipe.toml", recipe=with_phase(learning_rate=0.02))
    other = dataclasses.replace(RECIPE, model=dataclasses.replace(CONFIG, hidden_act="relu"))
    assert_refused('model.hidden_act is "gelu", not "relu"', recipe=other)
    differing = 'phases.1.warmup_steps is 2, not none, phases.1.decay is "linear", not "cosine"'
    assert_refused(differing, recipe=with_phase(decay="cosine", warmup_steps=None))
    assert_refused("examples.json", features=[write_packed(trained.folder, 7, 17)])


def test_by_force_another_recipe_goes_on_from_the_checkpoint(trained, caplog):
    caplog.set_level(logging.INFO, logger="ehr_bert")
    longer = with_phase(steps=8, learning_rate=0.02)
    assert pretrain(asked(trained.folder, recipe=longer, force=True)).steps == 8
    assert "resuming from the checkpoint at step 6" in caplog.text
    assert Recipe.read(trained.folder / "D" / "recipe.toml").phases[0].learning_rate == 0.02


def test_what_leaves_the_result_alone_may_change(trained):
    quieter = dataclasses.replace(
        with_phase(micro_batch_tokens=40), report_every=1, checkpoints=Checkpointing(every_steps=1)
    )
    again = pretrain(asked(trained.folder, recipe=quieter)).evaluation
    assert again.loss == pytest.approx(trained.outcome.evaluation.loss, abs=1e-4)


SHARES = """
import sys
from pathlib import Path
from ehr_bert.training.devices import Devices
from ehr_bert.training.execution import PretrainingResult, pretrain
from tests.training.test_execution import shared

pretrain(shared(Path(sys.argv[1]), micro_batch_tokens=30, devices=Devices(2)))
"""


def shared(folder: Path, micro_batch_tokens: int, **changes) -> PretrainingRequest:
    recipe = with_phase(steps=3, batch_patients=11, micro_batch_tokens=micro_batch_tokens)
    return asked(folder, features=[write_packed(folder, 7, 13)], recipe=recipe, evaluate=False, **changes)


@pytest.mark.slow
@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="takes shares of a CPU")
def test_two_shares_and_small_micro_batches_give_the_weights_of_one_device(tmp_path):
    pretrain(shared(tmp_path / "one", micro_batch_tokens=1000))
    two = subprocess.run([sys.executable, "-c", SHARES, tmp_path / "two"], capture_output=True, text=True)
    assert "float32 on 2 CPUs" in two.stdout, two.stderr
    weights, others = (load_model(tmp_path / name / "D").trainable_variables for name in ("one", "two"))
    for ours, theirs in zip(weights, others, strict=True):
        np.testing.assert_allclose(theirs.numpy(), ours.numpy(), atol=1e-5, err_msg=ours.path)


def test_a_types_pickle_that_names_a_global_is_refused(trained):
    bad = trained.folder / "P.types"
    bad.write_bytes(pickle.dumps(np.arange(3)))
    with pytest.raises(UserError, match="refused, pickle 1: it names numpy"):
        pretrain(asked(trained.folder, vocabulary=bad))
    with pytest.raises(UserError, match="refused, pickle 1: it names numpy"):
        export(trained.folder / "D", trained.folder / "H", vocabulary_file=bad)
