# Covers: ehr_bert.export.training_facts
"""Export of a complete training: the contents of the folder, and its use with stock tools."""

import json
import re
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    pipeline,
)

from ehr_bert.examples.packed import PackedSettings
from ehr_bert.examples.reading import expand
from ehr_bert.examples.writing import write_folder
from ehr_bert.export.folder import export
from ehr_bert.model.config import ModelConfig
from ehr_bert.schemas import SEQUENCES
from ehr_bert.training.execution import pretrain
from ehr_bert.training.flops import ProductRate
from ehr_bert.training.inputs import FeatureSource
from ehr_bert.training.recipe import Phase, Recipe
from ehr_bert.training.request import PretrainingRequest
from ehr_bert.vocabulary import CodeCount, Vocabulary

CODES = [f"ICD9_{number:03}" for number in range(30)]
RARE = CODES[-3:]
VOCABULARY = Vocabulary.from_counts(CodeCount(code, 4 if code in RARE else 9, 9) for code in CODES)
FIRST_DAY = date(1987, 6, 5)
PLACE = "hospital-of-the-machine"
RECIPE = Recipe(
    model=ModelConfig(
        hidden_size=12,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=5,
        max_position_embeddings=17,
        type_vocab_size=6,
    ),
    phases=(Phase(max_seq_length=17, batch_patients=5, steps=3, learning_rate=1e-2),),
    compile=False,
)


def write_sequences(folder):
    """Patients of up to nine codes in up to four visits."""
    rng = np.random.default_rng(0)
    for split in ("train", "valid"):
        rows = []
        for patient in range(23):
            visits = np.sort(rng.integers(0, 4, rng.integers(1, 10)))
            visits = np.unique(visits, return_inverse=True)[1] + 1
            days = [FIRST_DAY + timedelta(days=int(day)) for day in range(visits.max())]
            rows.append(
                {
                    "patient_id": f"PATIENT-{split}-{patient:04}",
                    "token_ids": rng.choice(VOCABULARY.code_ids, len(visits)),
                    "visit_ids": visits,
                    "admit_date": days,
                    "los_days": rng.choice([1, 2, 9], len(days)),
                    "days_to_next": [1] * len(days),
                }
            )
        path = folder / "sequences" / split
        path.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, SEQUENCES), path / "0.parquet")
    VOCABULARY.write(folder / "vocabulary.tsv")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The export of a model that began with another's weights."""
    place = tmp_path_factory.mktemp(PLACE)
    write_sequences(place / "sequences")
    write_folder(place / "sequences", place / "F", PackedSettings(seed=0, window_lengths=(17,)), shards=1)
    features = FeatureSource(expand(f"{place}/F/train-*.tfrecord"), expand(f"{place}/F/valid-*.tfrecord"))
    with pytest.MonkeyPatch.context() as patch:
        rate = ProductRate(flops_per_second=1e12, shape=(1, 1, 1), compiled=False)
        patch.setattr("ehr_bert.training.summary.measured_flops_per_second", lambda *_: rate)
        pretrain(PretrainingRequest([features], place / "D", RECIPE))
    export(place / "D", place / "out")
    return place / "out"


def test_no_file_contains_a_patient_a_date_a_path_or_a_rare_code(exported):
    for file in exported.iterdir():
        text = file.read_bytes().decode(errors="replace")
        for secret in ("PATIENT", PLACE, str(exported.parent), ".tfrecord", *RARE):
            assert secret not in text, (file, secret)
        assert not re.search(r"\b(19|20)\d\d-\d\d-\d\d\b", text), file


def test_the_card_describes_data_training_and_evaluation(exported):
    card = (exported / "README.md").read_text()
    assert "The vocabulary has 27 codes: 27 of ICD9." in card
    assert re.search(r"\| examples 1 \| 23 \| \d+ \| 17 \| \d+ \|", card)
    assert "max_seq_length = 17" in card
    assert "On 23 patients, with all codes." in card
    assert re.search(r"\| masked codes: loss \| \d\.\d{4} \| \d\.\d{4} \|", card)
    assert "3, of which 0 are read as a heading" in card
    assert "\n\n\n" not in card


def test_the_ancestry_names_the_vocabulary_of_the_export(exported):
    (newest,) = json.loads((exported / "ancestry.json").read_text())["generations"]
    assert (
        newest["vocabulary_sha256"]
        == json.loads((exported / "summary.json").read_text())["vocabulary_sha256"]
    )
    assert (newest["steps"], newest["tokens"]) == (3, len(VOCABULARY) - len(RARE))
    assert newest["vocabulary_sha256"] in (exported / "README.md").read_text()


def test_stock_tools_load_the_export(exported):
    tokenizer = AutoTokenizer.from_pretrained(exported, trust_remote_code=True)
    inputs = tokenizer([f"{CODES[0]} {RARE[0]} | {CODES[1]}", CODES[2]], padding=True, return_tensors="pt")
    hidden = AutoModel.from_pretrained(exported)(**inputs).last_hidden_state
    assert hidden.shape == (2, 4, RECIPE.model.hidden_size)
    predictions = pipeline("fill-mask", model=str(exported), trust_remote_code=True)(f"{CODES[0]} | [MASK]")
    assert {prediction["token_str"] for prediction in predictions} <= set(VOCABULARY.tokens) - set(RARE)


def test_a_classifier_loads_the_encoder_and_the_pooler(exported):
    model, info = BertForSequenceClassification.from_pretrained(
        exported, num_labels=3, output_loading_info=True
    )
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    pooler = AutoModel.from_pretrained(exported).pooler.dense.weight
    assert torch.equal(model.bert.pooler.dense.weight, pooler)


def test_trainer_fine_tunes_the_export(exported, tmp_path):
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(exported, trust_remote_code=True)
    model = AutoModelForSequenceClassification.from_pretrained(exported)
    histories = [f"{CODES[number]} {CODES[number + 2]} | {CODES[number % 2]}" for number in range(20)]
    data = [{**tokenizer(text), "labels": number % 2} for number, text in enumerate(histories)]
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=40,
        learning_rate=0.05,
        per_device_train_batch_size=10,
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
        seed=1,
    )
    collate = DataCollatorWithPadding(tokenizer)
    trainer = Trainer(model, arguments, train_dataset=data, data_collator=collate, processing_class=tokenizer)
    before = trainer.predict(data).metrics["test_loss"]
    trainer.train()
    assert trainer.predict(data).metrics["test_loss"] < min(before, 0.5)
