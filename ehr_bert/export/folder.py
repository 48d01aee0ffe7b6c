"""The export folder: a training's model as stock Hugging Face files.

config.json        the model's shape     tokenizer_config.json,        the tokenizer
model.safetensors  its weights           history_tokenizer.py, vocab.json,
README.md          the model card        tokenizer.json
summary.json       where it comes from, and how equal it is
ancestry.json      the trainings that made it, if they are known
model.onnx         the same model for ONNX Runtime, if asked for
heads.safetensors  heads of objectives that stock BERT does not have, if there are any
"""

import dataclasses
from collections.abc import Iterator, Sequence
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
from ehr_bert.export.parity import PARITY_TOLERANCE, check_parity
from ehr_bert.export.random_examples import random_examples
from ehr_bert.export.rare_codes import KeptTokens, kept_tokens
from ehr_bert.export.tensorflow1 import read_tensorflow1_training
from ehr_bert.export.tokenizer import row_tokens, unwritable, write_tokenizer
from ehr_bert.export.trained import Trained, read_training
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.pretraining import BatchTensors
from ehr_bert.training.record.ancestry import Ancestry
from ehr_bert.training.record.checkpoints import newest_checkpoint
from ehr_bert.weights.hugging_face import HEADS_FILE
from ehr_bert.weights.tensorflow1 import is_tensorflow1

COMPARED_BATCHES, COMPARED_TOKENS = 4, 2048
"""How much of the real examples the models are compared on: enough to tell a difference, soon done."""


def export(
    training: Path,
    output: Path,
    vocabulary_file: Path | None = None,
    examples: Sequence[Path] = (),
    min_patients: int = MIN_PATIENTS,
    config_file: Path | None = None,
    onnx: bool = False,
) -> None:
    """Writes the export folder of a trained model, once it is shown to compute the same.

    Args:
        training: A training folder, for its newest checkpoint, or a checkpoint `folder/model.ckpt-<step>`,
            which may be one of google-research/bert or Med-BERT.
        output: The export folder; an earlier one is replaced.
        vocabulary_file: The vocabulary, where the training folder holds none, or one without counts.
        examples: TFRecord files to compare the models on; those of the training, as long as they are where
            they were, if none are named. Random examples are compared in any case.
        min_patients: Codes that fewer patients of the training split have are left out of the vocabulary.
        config_file: The config of a checkpoint of TensorFlow 1, where none lies beside it.
        onnx: Whether `model.onnx` is written too.

    Raises:
        UserError: a file is missing or doesn't fit, or the models differ; nothing is written then.
    """
    checkpoint = Path(newest_checkpoint(training))
    if is_tensorflow1(checkpoint):
        trained = read_tensorflow1_training(checkpoint, config_file, vocabulary_file)
    else:
        trained = read_training(checkpoint, vocabulary_file)
    write_export(trained, output, examples or trained.examples, min_patients, onnx)
    print(f"exported {checkpoint} to {output}")


def write_export(
    trained: Trained, output: Path, examples: Sequence[Path], min_patients: int, onnx: bool = False
) -> None:
    """Writes the export folder of a model, once it is shown to compute the same.

    Args:
        trained: The model.
        output: The export folder; an earlier one is replaced.
        examples: TFRecord files to compare the models on, beside random examples.
        min_patients: Codes that fewer patients of the training split have are left out of the vocabulary.
        onnx: Whether `model.onnx` is written too.

    Raises:
        UserError: something doesn't fit, or the models differ; nothing is written then.
    """
    model, vocabulary = trained.model, trained.vocabulary
    config, mask_id, cls_id = model.config, trained.mask_id, trained.cls_id
    tokens = row_tokens(config, vocabulary)
    kept = kept_tokens(tokens, vocabulary, min_patients)
    print(kept)
    code_ids = vocabulary.code_ids[vocabulary.code_ids < len(tokens)]
    batches = chain(
        [random_examples(config, code_ids, mask_id, cls_id)],
        _real_batches(config, examples),
    )
    with atomic_folder(output, "convert") as temporary:
        hugging_face_model(model, kept.rows).save_pretrained(temporary)
        exported = BertForPreTraining.from_pretrained(temporary)
        parity = check_parity(model, exported, batches, kept)
        print(parity)
        if onnx:
            print(write_onnx(exported, temporary / ONNX_FILE))
        cls_token = None if cls_id is None else tokens[cls_id]
        tokenizer = write_tokenizer(temporary, config, kept.tokens, tokens[mask_id], cls_token)
        account = trained.account
        if account.ancestry.generations:
            account = dataclasses.replace(account, ancestry=_with_tokens(account.ancestry, kept))
            account.ancestry.write(temporary)
        if heads := write_heads(temporary, trained.heads):
            counts = ", ".join(f"{name} ({count:,} parameters)" for name, count in heads.items())
            print(f"heads in {HEADS_FILE}: {counts}")
        codes = [tokens[row] for row in np.intersect1d(code_ids, kept.rows)]
        card = model_card(exported, tokenizer, codes, kept, parity, account, onnx, heads)
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
    if odd := unwritable(kept.tokens):
        print(f"{len(odd):,} codes hold a blank or |, such as {odd[0]!r}: the tokenizer can't be given them")


def _with_tokens(ancestry: Ancestry, kept: KeptTokens) -> Ancestry:
    """An ancestry whose newest vocabulary is the export's: another's fingerprint may give rare codes away."""
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
                f"the examples hold the id {largest}, the model has {config.vocab_size} tokens: "
                "name examples like those that it was trained on"
            )
        yield batch, batches.layout
