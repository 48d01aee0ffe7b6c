"""A small trained model, its vocabulary and its training folder."""

import json
from pathlib import Path

import keras
import numpy as np

from ehr_bert.export.rare_codes import kept_tokens
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.pretraining import PretrainingModel, build_model
from ehr_bert.schemas import SpecialToken
from ehr_bert.training.record.checkpoints import Checkpoints
from ehr_bert.vocabulary import CodeCount, Vocabulary
from tests.model.small import SMALL

CODES = [f"ICD10_E{number}" for number in range(SMALL.vocab_size - len(SpecialToken))]
VOCABULARY = Vocabulary.from_counts(CodeCount(code, 99 - place, 99) for place, code in enumerate(CODES))
MASK_ID, CLS_ID = VOCABULARY.id_of(SpecialToken.MASK), VOCABULARY.id_of(SpecialToken.CLS)
ALL_KEPT = kept_tokens(VOCABULARY.tokens, VOCABULARY, min_patients=0)


def trained_model(config: ModelConfig = SMALL, seed: int = 5) -> PretrainingModel:
    """A model in which no two weights are equal, biases and scales neither."""
    model = build_model(config, seed)
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.normal(variable.path.endswith("gamma"), 0.3, variable.shape))
    return model


def training_folder(
    path: Path,
    model: PretrainingModel,
    vocabulary: Vocabulary | None = VOCABULARY,
    mask_id: int = MASK_ID,
    cls_id: int | None = CLS_ID,
) -> Path:
    """A training folder with one checkpoint, after 7 steps."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(model.config.to_dict()))
    (path / "examples.json").write_text(json.dumps({"mask_id": mask_id, "cls_id": cls_id}))
    if vocabulary:
        vocabulary.write(path / "vocabulary.tsv")
    with Checkpoints(path, model, keras.optimizers.SGD(), keep=1) as checkpoints:
        checkpoints.save(7, {})
    return path
