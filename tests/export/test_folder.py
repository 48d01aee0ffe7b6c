# Covers: ehr_bert.export.card, ehr_bert.export.masked_codes, ehr_bert.export.trained_model
# Covers: ehr_bert.cli.fill_mask
import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, BertForPreTraining, pipeline

import ehr_bert.export.tokenizer  # noqa: F401  registers the tokenizer
from ehr_bert.cli import main
from ehr_bert.examples.layout import Layout
from ehr_bert.examples.reading import describe
from ehr_bert.examples.tutorial import TutorialSettings
from ehr_bert.examples.writing import write_files
from ehr_bert.export import folder as exporting
from ehr_bert.export.folder import export
from ehr_bert.export.masked_codes import top_predictions
from ehr_bert.export.parity import PARITY_TOLERANCE
from ehr_bert.export.random_examples import RANDOM_PATIENTS
from ehr_bert.files import SUMMARY_FILE
from ehr_bert.pickles import TUTORIAL_SEQUENCES
from ehr_bert.vocabulary import CodeCount, Vocabulary
from tests.export.small import CODES, VOCABULARY, trained_model, training_folder
from tests.model.small import SMALL
from tests.user_errors import raises_user_error, warning_keys

HEADS = {f"cls.predictions.{name}" for name in ("bias", "transform.dense.weight", "transform.dense.bias")} | {
    f"cls.predictions.transform.LayerNorm.{name}" for name in ("weight", "bias")
}
STAY = {f"cls.seq_relationship.{name}" for name in ("weight", "bias")}
POOLER = {f"bert.pooler.dense.{name}" for name in ("weight", "bias")}


@pytest.fixture(scope="module")
def model():
    return trained_model()


@pytest.fixture(scope="module")
def training(tmp_path_factory, model):
    return training_folder(tmp_path_factory.mktemp("run") / "training", model)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, training):
    path = tmp_path_factory.mktemp("run") / "exported"
    export(training, path)
    return path


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def masked_code_logits(model, ids, visits, position):
    """Logits of the Keras model for the code at one position of one patient, `[V]`."""
    batch = {
        "token_ids": np.array(ids, np.int32),
        "visit_ids": np.array(visits, np.int32),
        "position_ids": np.arange(len(ids), dtype=np.int32),
        "patient_ids": np.ones(len(ids), np.int32),
        "masked_places": np.array([position], np.int32),
        "patient_places": np.zeros(1, np.int32),
    }
    layout = Layout(((1, len(ids)),), masked=1, patients=1)
    return np.asarray(model(batch, layout=layout)["masked_lm_logits"])[0]


def masked_code_probabilities(*arguments):
    return softmax(masked_code_logits(*arguments))


@pytest.mark.parametrize(
    ("stock", "unexpected"),
    [
        (BertForPreTraining, set()),
        (AutoModelForMaskedLM, STAY | POOLER),
        (AutoModel, STAY | HEADS),
    ],
)
def test_stock_classes_load_the_export_like_a_stock_folder(exported, tmp_path, stock, unexpected):
    _, info = stock.from_pretrained(exported, output_loading_info=True)
    assert info["unexpected_keys"] == unexpected
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    BertForPreTraining.from_pretrained(exported).save_pretrained(tmp_path)
    assert stock.from_pretrained(tmp_path, output_loading_info=True)[1] == info


def test_the_config_contains_the_stock_keys_and_ours(exported):
    config = json.loads((exported / "config.json").read_text())
    assert config["model_type"] == "bert"
    assert config["architectures"] == ["BertForPreTraining"]
    assert SMALL.to_dict().items() <= config.items()


def test_fill_mask_gives_the_keras_models_probabilities(exported, model):
    fill_mask = pipeline("fill-mask", model=str(exported))
    predictions = fill_mask(f"{CODES[3]} [MASK] | {CODES[8]} {CODES[1]} | {CODES[0]}", top_k=SMALL.vocab_size)
    expected = masked_code_probabilities(model, [2, 8, 4, 13, 6, 5], [0, 1, 1, 2, 2, 3], 2)
    assert {prediction["token_str"] for prediction in predictions} == set(VOCABULARY.tokens)
    for prediction in predictions:
        assert prediction["token_str"] == VOCABULARY.tokens[prediction["token"]]
        assert prediction["score"] == pytest.approx(expected[prediction["token"]], abs=1e-5)


def test_top_predictions_are_the_keras_models(exported, model):
    predictions = top_predictions(exported, f"{CODES[3]} | {CODES[8]} [MASK]", 4)
    expected = masked_code_probabilities(model, [2, 8, 13, 4], [0, 1, 2, 2], 3)
    order = np.argsort(-expected)[:4]
    assert [code for code, _ in predictions] == [VOCABULARY.tokens[index] for index in order]
    np.testing.assert_allclose([probability for _, probability in predictions], expected[order], atol=1e-5)


def test_a_folder_that_is_not_an_export_predicts_nothing(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with raises_user_error("not-an-export", folder):
            top_predictions(folder, "[MASK]", 2)


@pytest.mark.parametrize("history", ["ICD10_E0", "[MASK] [MASK]"])
def test_a_history_needs_exactly_one_mask(exported, history):
    with raises_user_error("not-one-mask", "[MASK]"):
        top_predictions(exported, history, 2)


def test_transformers_without_this_package_loads_it_offline(exported, tmp_path):
    code = f"""
from transformers import AutoModel, AutoTokenizer, pipeline
folder = {str(exported)!r}
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
print(tokenizer("{CODES[0]} | {CODES[1]}")["token_type_ids"])
print(pipeline("fill-mask", model=folder, trust_remote_code=True)("{CODES[0]} [MASK]")[0]["score"] > 0)
try:
    AutoTokenizer.from_pretrained(folder)
except Exception as error:
    print(error)
import sys
assert "ehr_bert" not in sys.modules and "tensorflow" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
    )
    assert done.returncode == 0, done.stderr
    visits, filled, reason = done.stdout.splitlines()
    assert (visits, filled) == ("[0, 1, 2]", "True")
    assert "load with trust_remote_code=True" in reason


def test_the_card_and_the_summary_describe_the_model(exported, model):
    card = (exported / "README.md").read_text()
    assert f"| parameters | {model.count_params():,} |" in card
    assert "| vocabulary | 29 tokens |" in card
    assert "agree on 7 patients" in card
    assert 'fill_mask("ICD10_E0 | ICD10_E1 | [MASK]")' in card
    assert "Evaluation" not in card
    summary = json.loads((exported / SUMMARY_FILE).read_text())
    assert summary["checkpoint"] == "model.ckpt-7"
    assert summary["vocabulary_sha256"] == VOCABULARY.sha256
    assert 0 < summary["parity"]["masked_lm_logits"] < PARITY_TOLERANCE


def test_the_card_shows_the_figures_of_the_checkpoint_and_the_baseline(tmp_path, model):
    training = training_folder(tmp_path / "training", model)
    figures = {
        "patients": 1234,
        "masked_lm_loss": 2.5,
        "code_frequencies_loss": 4.25,
        "masked_lm_accuracy": 0.5,
    }
    lines = [
        {"step": step} | {f"eval/{name}": value + offset for name, value in figures.items()}
        for step, offset in ((3, 1), (7, 0))
    ]
    (training / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    export(training, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "On 1,234 patients, with all codes." in card
    assert "| masked codes: loss | 2.5000 | 4.2500 |\n" in card
    assert "| masked codes: accuracy | 0.5000 |  |\n" in card
    assert "3.5000" not in card


RARE = ["ICD10_K88.62", "ICD10_K88.6", "SNOMED_8862"]
COMMON = [*CODES[:20], "ICD10_K88"]
COUNTED = Vocabulary.from_counts(
    CodeCount(code, patients, 99) for codes, patients in ((COMMON, 5), (RARE, 4)) for code in codes
)


@pytest.fixture(scope="module")
def without_rare(tmp_path_factory, model):
    """The export of a model with codes of four patients."""
    training = training_folder(tmp_path_factory.mktemp("rare") / "training", model, COUNTED)
    export(training, training.parent / "out")
    return training.parent / "out"


def test_rare_codes_are_removed_and_other_weights_are_bit_identical(without_rare, model):
    keras_weights = {weight.path.partition("/")[2]: weight.value.numpy() for weight in model.weights}
    exported = BertForPreTraining.from_pretrained(without_rare)
    kept = [COUNTED.ids[token] for token in COUNTED.tokens if token not in RARE]
    assert exported.config.vocab_size == len(kept) == SMALL.vocab_size - len(RARE)
    file = (without_rare / "model.safetensors").read_bytes()
    table = keras_weights["encoder/embeddings/tokens/embeddings"]
    exported_table = exported.bert.embeddings.word_embeddings.weight.detach().numpy()
    np.testing.assert_array_equal(exported_table, table[kept])
    bias = keras_weights["masked_codes/bias"]
    np.testing.assert_array_equal(exported.cls.predictions.bias.detach().numpy(), bias[kept])
    for code in RARE:
        assert table[COUNTED.ids[code]].tobytes() not in file
        assert bias[COUNTED.ids[code]].tobytes() not in file


def test_rare_codes_are_read_by_rule_and_kept_ones_have_the_keras_models_logits(without_rare, model):
    tokenizer = AutoTokenizer.from_pretrained(without_rare)
    inputs = tokenizer(f"{CODES[3]} {RARE[0]} | {RARE[1]} {RARE[2]} [MASK]", return_tensors="pt")
    with torch.no_grad():
        logits = BertForPreTraining.from_pretrained(without_rare)(**inputs).prediction_logits[0, -1].numpy()
    read = [COUNTED.ids[token] for token in ("[CLS]", CODES[3], "ICD10_K88", "ICD10_K88", "[UNK]", "[MASK]")]
    expected = masked_code_logits(model, read, [0, 1, 1, 2, 2, 2], 5)
    kept = [COUNTED.ids[token] for token in tokenizer.get_vocab()]
    np.testing.assert_allclose(logits, expected[kept], atol=1e-5)


def test_no_file_of_an_export_contains_a_rare_code_and_the_card_reports_their_removal(without_rare):
    for file in without_rare.iterdir():
        text = file.read_bytes().decode(errors="replace")
        assert not [code for code in RARE if code in text], file
        assert COUNTED.sha256 not in text, file
    card = (without_rare / "README.md").read_text()
    assert "Codes of fewer than 5 patients of the training split were removed" in card
    assert "3, of which 2 are read as a heading" in card
    assert "21 codes: 21 of ICD10." in card
    summary = json.loads((without_rare / SUMMARY_FILE).read_text())
    assert (summary["min_patients"], summary["codes_to_heading"], summary["codes_to_unknown"]) == (5, 2, 1)


def test_fill_mask_prints_how_unknown_codes_are_read(without_rare, capsys):
    assert main(["fill-mask", str(without_rare), f"{CODES[3]} {RARE[0]} | ICD9_1 [MASK]", "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == [
        "  ICD10_K88.62 is not in the vocabulary of the model and is read as ICD10_K88",
        "  ICD9_1 is not in the vocabulary of the model and is read as [UNK]",
    ]
    assert len(lines) == 5


def test_examples_with_rare_codes_are_compared_as_the_export_reads_them(tmp_path, model, examples):
    training = training_folder(tmp_path / "training", model, COUNTED)
    report = export(training, tmp_path / "out", examples=[examples])
    assert report.parity.patients == RANDOM_PATIENTS + describe([examples]).patients


def test_min_patients_decides_which_codes_are_kept(tmp_path, model):
    training = training_folder(tmp_path / "training", model, COUNTED)
    assert main(["convert", str(training), str(tmp_path / "out"), "--min-patients", "4"]) == 0
    assert set(json.loads((tmp_path / "out" / "vocab.json").read_text())) == set(COUNTED.tokens)
    assert "Each code occurs in 4 patients or more." in (tmp_path / "out" / "README.md").read_text()


def test_missing_counts_are_taken_from_a_named_vocabulary(tmp_path, model, caplog):
    uncounted = Vocabulary.from_types(COUNTED.to_types())
    training = training_folder(tmp_path / "training", model, uncounted)
    export(training, tmp_path / "all")
    assert warning_keys(caplog) == ["vocabulary-without-counts"]
    assert "may include codes of few patients" in (tmp_path / "all" / "README.md").read_text()
    assert json.loads((tmp_path / "all" / SUMMARY_FILE).read_text())["min_patients"] is None
    COUNTED.write(tmp_path / "counted.tsv")
    export(training, tmp_path / "few", tmp_path / "counted.tsv")
    assert RARE[0] not in (tmp_path / "few" / "vocab.json").read_text()


def test_exporting_again_gives_identical_files(exported, training, tmp_path):
    export(training, tmp_path / "again")
    files = sorted(path.name for path in exported.iterdir())
    assert files == sorted(path.name for path in (tmp_path / "again").iterdir())
    for name in files:
        assert (exported / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_model_with_the_choices_of_med_bert_is_exported(tmp_path, pooling):
    model = trained_model(dataclasses.replace(SMALL, stay_pooling=pooling))
    training = training_folder(tmp_path / "training", model, mask_id=0, cls_id=None)
    export(training, tmp_path / "out")
    predictions = top_predictions(tmp_path / "out", f"{CODES[3]} | [PAD] {CODES[8]}", 1)
    expected = masked_code_probabilities(model, [8, 0, 13], [1, 2, 2], 1)
    assert predictions[0][0] == VOCABULARY.tokens[expected.argmax()]


def test_models_that_differ_leave_nothing_behind(training, tmp_path, monkeypatch):
    def spoiled(model, rows):
        exported = real(model, rows)
        exported.cls.predictions.bias.data[3] += 2 * PARITY_TOLERANCE
        return exported

    real = exporting.hugging_face_model
    monkeypatch.setattr(exporting, "hugging_face_model", spoiled)
    with raises_user_error("export-not-equal", "masked_lm_logits", "differ by 2"):
        export(training, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """TFRecord examples of 37 patients, in windows longer than the model's."""
    rng = np.random.default_rng(2)
    visits = [np.sort(rng.integers(1, 5, rng.integers(1, 30))) for _ in range(37)]
    rows = {
        "patient_id": [str(number) for number in range(37)],
        "token_ids": [rng.choice(VOCABULARY.code_ids, len(numbers)) for numbers in visits],
        "visit_ids": visits,
        "los_days": [rng.integers(0, 20, 4) for _ in visits],
        "days_to_next": [rng.integers(0, 20, 4) for _ in visits],
    }
    batch = pa.record_batch(rows, schema=TUTORIAL_SEQUENCES)
    settings = TutorialSettings(max_seq_length=17, max_predictions_per_seq=3, masked_lm_prob=0.3, seed=1)
    file = tmp_path_factory.mktemp("examples") / "train.tfrecord"
    write_files([batch], "patients", VOCABULARY, settings, [file])
    return file


def test_real_examples_are_compared_too(training, examples, tmp_path):
    report = export(training, tmp_path / "out", examples=[examples])
    assert report.parity.patients == RANDOM_PATIENTS + describe([examples]).patients
    assert str(report).startswith(f"Exported model.ckpt-7 to {tmp_path / 'out'}.")


def test_examples_of_another_vocabulary_are_refused(examples, tmp_path):
    config = dataclasses.replace(SMALL, vocab_size=9)
    few = Vocabulary.from_counts(CodeCount(code, 9, 9) for code in CODES[:4])
    training = training_folder(tmp_path / "training", trained_model(config), few)
    with raises_user_error("ids-out-of-range", "the id 2", "9 tokens"):
        export(training, tmp_path / "out", examples=[examples])
    assert not (tmp_path / "out").exists()


def test_a_training_without_a_vocabulary_needs_a_named_one(tmp_path, model):
    training = training_folder(tmp_path / "training", model, vocabulary=None)
    with raises_user_error("missing-vocabulary", tmp_path / "training", "--vocab-file"):
        export(training, tmp_path / "out")
    VOCABULARY.write(tmp_path / "named.tsv")
    export(training, tmp_path / "out", tmp_path / "named.tsv")
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_another_vocabulary_than_the_trainings_is_refused(training, tmp_path):
    Vocabulary.from_types({"empty_pad": 0, "A": 1}).write(tmp_path / "other.tsv")
    with raises_user_error("other-vocabulary", "other.tsv"):
        export(training, tmp_path / "out", tmp_path / "other.tsv")
