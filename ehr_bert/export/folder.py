"""The export folder: a trained model as stock Hugging Face files.

config.json        the model's shape     tokenizer_config.json,        the tokenizer
model.safetensors  its weights           history_tokenizer.py, vocab.json,
README.md          the model card        tokenizer.json
summary.json       the checkpoint, and the largest differences of logits
ancestry.json      the training runs it comes from, if known
model.onnx         the same model for ONNX Runtime, if requested
heads.safetensors  heads of objectives that stock BERT does not have, if there are any
"""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from transformers import BertForPreTraining

from ehr_bert.errors import UserError
from ehr_bert.examples.layout import Layout
from ehr_bert.examples.reading import open_examples
from ehr_bert.examples.source import Reading
from ehr_bert.export import MIN_PATIENTS
from ehr_bert.export.card import model_card
from ehr_bert.export.heads import write_heads
from ehr_bert.export.model import hugging_face_model
from ehr_bert.export.onnx import ONNX_FILE, write_onnx
from ehr_bert.export.parity import PARITY_TOLERANCE, Parity, check_parity
from ehr_bert.export.random_examples import random_examples
from ehr_bert.export.rare_codes import KeptTokens, kept_tokens
from ehr_bert.export.tensorflow1 import read_tensorflow1_training
from ehr_bert.export.tokenizer import row_tokens, unwritable_tokens, write_tokenizer
from ehr_bert.export.trained_model import TrainedModel, read_trained_model
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.logs import warn
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.pretraining import BatchTensors
from ehr_bert.quiet import quiet_transformers
from ehr_bert.training.record.ancestry import Ancestry
from ehr_bert.training.record.checkpoints import newest_checkpoint
from ehr_bert.weights.hugging_face import HEADS_FILE
from ehr_bert.weights.tensorflow1 import is_tensorflow1

logger = logging.getLogger(__name__)

COMPARED_BATCHES, COMPARED_TOKENS = 4, 2048
"""Number of batches of real examples on which the models are compared, and of tokens per batch."""


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Attributes:
        checkpoint: Name of the checkpoint.
        folder: The export folder.
        parity: Largest differences between TensorFlow and PyTorch.
        onnx_difference: Largest difference between PyTorch and ONNX Runtime, None without ONNX.
    """

    checkpoint: str
    folder: Path
    parity: Parity
    onnx_difference: float | None

    def __str__(self) -> str:
        lines = [f"Exported {self.checkpoint} to {self.folder}.", f"{self.parity}."]
        if self.onnx_difference is not None:
            lines.append(f"PyTorch and ONNX Runtime agree: largest difference {self.onnx_difference:.1e}.")
        return "\n".join(lines)


def export(
    training: Path,
    output: Path,
    vocabulary_file: Path | None = None,
    examples: Sequence[Path] = (),
    min_patients: int = MIN_PATIENTS,
    config_file: Path | None = None,
    onnx: bool = False,
) -> ExportReport:
    """Export a checkpoint to a Hugging Face folder, and verify that both models compute the same.

    Args:
        training: A training folder, for its newest checkpoint, or a checkpoint `folder/model.ckpt-<step>`,
            also one of google-research/bert or Med-BERT.
        output: The export folder. An earlier export is replaced.
        vocabulary_file: The vocabulary, if the training folder has none or only one without counts.
        examples: TFRecord files on which the models are compared, by default those of the training run
            that still exist. The models are always compared on random examples too.
        min_patients: Codes that fewer patients of the training split have are omitted from the vocabulary.
        config_file: The config of a TensorFlow 1 checkpoint, if its folder contains none.
        onnx: Whether to write `model.onnx` too.

    Raises:
        UserError: A file is missing or does not match the model, or the logits differ (key
            `export-not-equal`). Nothing is written then.
    """
    checkpoint = Path(newest_checkpoint(training))
    if is_tensorflow1(checkpoint):
        trained = read_tensorflow1_training(checkpoint, config_file, vocabulary_file)
    else:
        trained = read_trained_model(checkpoint, vocabulary_file)
    return write_export(trained, output, examples or trained.examples, min_patients, onnx)


def write_export(
    trained: TrainedModel, output: Path, examples: Sequence[Path], min_patients: int, onnx: bool = False
) -> ExportReport:
    """Export a trained model, and verify that both models compute the same. See `export`.

    Args:
        trained: The model.
        output: The export folder. An earlier export is replaced.
        examples: TFRecord files on which the models are compared, in addition to random examples.
        min_patients: Codes that fewer patients of the training split have are omitted from the vocabulary.
        onnx: Whether to write `model.onnx` too.

    Raises:
        UserError: A file does not match the model, or the logits differ (key `export-not-equal`). Nothing is
            written then.
    """
    model, vocabulary = trained.model, trained.vocabulary
    config, mask_id, cls_id = model.config, trained.mask_id, trained.cls_id
    tokens = row_tokens(config, vocabulary)
    kept = kept_tokens(tokens, vocabulary, min_patients)
    if kept.min_patients is None:
        warn(logger, "vocabulary-without-counts", str(kept))
    else:
        logger.info("%s", kept)
    code_ids = vocabulary.code_ids[vocabulary.code_ids < len(tokens)]
    batches = chain(
        [random_examples(config, code_ids, mask_id, cls_id)],
        _real_batches(config, examples),
    )
    with atomic_folder(output, "convert") as temporary:
        with quiet_transformers():
            hugging_face_model(model, kept.rows).save_pretrained(temporary)
            exported = BertForPreTraining.from_pretrained(temporary)
        parity = check_parity(model, exported, batches, kept)
        logger.debug("%s", parity)
        onnx_difference = write_onnx(exported, temporary / ONNX_FILE) if onnx else None
        cls_token = None if cls_id is None else tokens[cls_id]
        tokenizer = write_tokenizer(temporary, config, kept.tokens, tokens[mask_id], cls_token)
        facts = trained.facts
        if facts.ancestry.generations:
            facts = dataclasses.replace(facts, ancestry=_with_tokens(facts.ancestry, kept))
            facts.ancestry.write(temporary)
        if heads := write_heads(temporary, trained.heads):
            counts = ", ".join(f"{name} ({count:,} parameters)" for name, count in heads.items())
            logger.info("heads in %s: %s", HEADS_FILE, counts)
        codes = [tokens[row] for row in np.intersect1d(code_ids, kept.rows)]
        card = model_card(exported, tokenizer, codes, kept, parity, facts, onnx, heads)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        summary = {
            "checkpoint": trained.name,
            "vocabulary_sha256": kept.sha256,
            "min_patients": kept.min_patients,
            "codes_to_heading": kept.to_heading,
            "codes_to_unknown": kept.to_unknown,
            "tolerance": PARITY_TOLERANCE,
            "parity": dataclasses.asdict(parity),
            **({"heads": heads} if heads else {}),
        }
        write_json(temporary / SUMMARY_FILE, summary)
    if unwritable := unwritable_tokens(kept.tokens):
        warn(
            logger,
            "codes-with-separators",
            f"{len(unwritable):,} codes contain a space or |, such as {unwritable[0]!r}. A history cannot "
            "contain them, because these characters separate codes and visits.",
        )
    return ExportReport(trained.name, output, parity, onnx_difference)


def _with_tokens(ancestry: Ancestry, kept: KeptTokens) -> Ancestry:
    """Return the ancestry with the export's vocabulary, since the full one's could reveal rare codes."""
    newest, *older = ancestry.generations
    newest = dataclasses.replace(newest, vocabulary_sha256=kept.sha256, tokens=len(kept.tokens))
    return Ancestry((newest, *older))


def _real_batches(config: ModelConfig, files: Sequence[Path]) -> Iterator[tuple[BatchTensors, Layout]]:
    if not files:
        return
    examples = open_examples(files)
    batches = examples.evaluation(
        Reading(max_visits=config.type_vocab_size, max_seq_length=config.max_position_embeddings),
        batch_tokens=COMPARED_TOKENS,
        replicas=1,
        max_batches=COMPARED_BATCHES,
    )
    for batch in batches.dataset().as_numpy_iterator():
        if (largest := batch["token_ids"].max()) >= (config.vocab_size or 0):
            raise UserError(
                "ids-out-of-range",
                f"the examples contain the id {largest}, but the model has {config.vocab_size} tokens. "
                "Choose examples with the vocabulary of the training run.",
            )
        yield batch, batches.layout
