"""Conversion of TensorFlow 1 checkpoints to export folders, and back."""

import logging
from pathlib import Path

from ehr_bert.errors import UserError
from ehr_bert.export.trained_model import TrainedModel
from ehr_bert.export.training_facts import TrainingFacts
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.logs import warn
from ehr_bert.model.pretraining import build_model
from ehr_bert.pickles import write_pickles
from ehr_bert.vocabulary import TUTORIAL_PAD
from ehr_bert.weights.hugging_face import read_hugging_face
from ehr_bert.weights.matching import row_names
from ehr_bert.weights.pretrained import Pretrained, list_names
from ehr_bert.weights.tensorflow1 import pretrained_tensorflow1, write_tensorflow1
from ehr_bert.weights.tensorflow1_config import IN_PUBLISHED_CODE, Conventions, published_config

logger = logging.getLogger(__name__)

TENSORFLOW1_CHECKPOINT, TENSORFLOW1_CONFIG = "bert_model.ckpt", "bert_config.json"
"""Names of the checkpoint and its config in the releases of google-research/bert."""

MED_BERT_VOCABULARY, BERT_VOCABULARY = "vocab.types", "vocab.txt"
"""Names of the vocabulary in the formats of Med-BERT and google-research/bert."""


def read_tensorflow1_training(
    checkpoint: Path, config_file: Path | None = None, vocabulary_file: Path | None = None
) -> TrainedModel:
    """Read a TensorFlow 1 checkpoint.

    Args:
        checkpoint: The prefix, `folder/model.ckpt-<step>`.
        config_file: Its `bert_config.json`, if the folder contains none.
        vocabulary_file: Its `.types`, `vocab.txt` or `vocabulary.tsv`, if the folder contains none.

    Raises:
        UserError: There is no vocabulary (key `missing-vocabulary`), or another file is missing or does not
            match the checkpoint.
    """
    source = pretrained_tensorflow1(checkpoint, config_file, vocabulary_file)
    if source.vocabulary is None or source.mask_id is None:
        raise UserError(
            "missing-vocabulary",
            f"the folder of {checkpoint} contains no vocabulary. Name the vocabulary of the training run "
            "with --vocab-file (--vocab_file in the tutorial).",
        )
    tokens = row_names(source.vocabulary, source.config.vocab_size or 0)
    first = "a code" if source.cls_id is None else tokens[source.cls_id]
    logger.info(
        "%s: masked codes were replaced by %s (id %d), and each patient started with %s",
        *(checkpoint.name, tokens[source.mask_id], source.mask_id, first),
    )
    model = build_model(source.config, seed=0)
    for variable in model.weights:
        variable.assign(source.weights[variable.path.partition("/")[2]])
    return TrainedModel(
        name=checkpoint.name,
        model=model,
        vocabulary=source.vocabulary,
        mask_id=source.mask_id,
        cls_id=source.cls_id,
        examples=(),
        facts=TrainingFacts(),
    )


def export_tensorflow1(folder: Path, output: Path) -> Path:
    """Convert an export folder to a TensorFlow 1 checkpoint, with the files that the published programs read.

    bert_model.ckpt.*    the weights, without the moments of an optimizer
    bert_config.json     the model's shape
    vocab.types, .txt    the tokens in the order of their ids
    summary.json         the fingerprint of the weights

    Args:
        folder: An export folder, or another Hugging Face folder of `BertForPreTraining` with a vocabulary.
        output: The folder to write. An earlier output is replaced.

    Returns:
        The prefix of the checkpoint.

    Raises:
        UserError: The model has no weights of a head (key `missing-weights`) or no vocabulary
            (`missing-vocabulary`), or another file is missing or invalid. Nothing is written then.
    """
    source = read_hugging_face(folder)
    if source.missing:
        raise UserError(
            "missing-weights",
            f"{folder} has no {list_names(source.missing)}. Choose a folder with both pretraining heads.",
        )
    if source.vocabulary is None:
        raise UserError(
            "missing-vocabulary",
            f"{folder} has no vocabulary. Choose a folder with vocab.json or vocab.txt.",
        )
    tokens = row_names(source.vocabulary, source.config.vocab_size or 0)
    config = published_config(source.config, Conventions(source.mask_id, source.cls_id))
    with atomic_folder(output, "convert", folder) as temporary:
        write_tensorflow1(temporary / TENSORFLOW1_CHECKPOINT, source.weights, source.config)
        write_json(temporary / TENSORFLOW1_CONFIG, config)
        types = {token: index for index, token in enumerate((TUTORIAL_PAD, *tokens[1:]))}
        write_pickles(temporary / MED_BERT_VOCABULARY, [types])
        (temporary / BERT_VOCABULARY).write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
        write_json(temporary / SUMMARY_FILE, {"weights_sha256": source.sha256})
    if differences := _differences_from_published(source):
        warn(
            logger,
            "published-programs-differ",
            "the published programs compute other values unless their code is changed: "
            + "; ".join(differences),
        )
    return output / TENSORFLOW1_CHECKPOINT


def _differences_from_published(model: Pretrained) -> list[str]:
    """Return the differences between this model and the fixed behaviour of the published programs."""
    config = model.config
    differences = []
    if config.hidden_act == "gelu":
        differences.append(
            "gelu is the exact form here, 0.5 * x * (1 + erf(x / sqrt(2))), the tanh form there"
        )
    if config.layer_norm_eps != IN_PUBLISHED_CODE["layer_norm_eps"]:
        differences.append(f"layer_norm_eps is {config.layer_norm_eps} here, 1e-12 there")
    if config.stay_pooling in ("sum", "mean"):
        differences.append(
            f"the stay head reads the {config.stay_pooling} of positions here, the first there"
        )
    elif config.stay_pooling == "first" and model.cls_id is not None:
        differences.append("the stay head reads the first code here, the first position there")
    return differences
