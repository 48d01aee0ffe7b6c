"""TensorFlow 1 checkpoints as export folders, and the way back."""

from pathlib import Path

from ehr_bert.errors import UserError
from ehr_bert.export.account import Account
from ehr_bert.export.trained import Trained
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.model.pretraining import build_model
from ehr_bert.pickles import write_pickles
from ehr_bert.vocabulary import TUTORIAL_PAD
from ehr_bert.weights.hugging_face import read_hugging_face
from ehr_bert.weights.matching import row_names
from ehr_bert.weights.pretrained import Pretrained, shown
from ehr_bert.weights.tensorflow1 import pretrained_tensorflow1, write_tensorflow1
from ehr_bert.weights.tensorflow1_config import IN_PUBLISHED_CODE, Conventions, published_config

CHECKPOINT, CONFIG = "bert_model.ckpt", "bert_config.json"
"""What google-research/bert calls them in its releases."""

TYPES, TOKENS = "vocab.types", "vocab.txt"
"""The vocabulary as Med-BERT reads it, and as google-research/bert does."""


def read_tensorflow1_training(
    checkpoint: Path, config_file: Path | None = None, vocabulary_file: Path | None = None
) -> Trained:
    """The model of a TensorFlow 1 checkpoint.

    Args:
        checkpoint: The prefix, `folder/model.ckpt-<step>`.
        config_file: Its `bert_config.json`, where none lies beside it.
        vocabulary_file: Its `.types`, `vocab.txt` or `vocabulary.tsv`, where none lies beside it.

    Raises:
        UserError: a file is missing, or doesn't fit.
    """
    read = pretrained_tensorflow1(checkpoint, config_file, vocabulary_file)
    if read.vocabulary is None or read.mask_id is None:
        raise UserError(
            f"no vocabulary lies beside {checkpoint}: name the one it was trained with (--vocab_file)"
        )
    tokens = row_names(read.vocabulary, read.config.vocab_size or 0)
    first = "a code" if read.cls_id is None else tokens[read.cls_id]
    print(
        f"{checkpoint.name} hid codes by {tokens[read.mask_id]} (id {read.mask_id}), and {first} stood first"
    )
    model = build_model(read.config, seed=0)
    for variable in model.weights:
        variable.assign(read.weights[variable.path.partition("/")[2]])
    return Trained(
        name=checkpoint.name,
        model=model,
        vocabulary=read.vocabulary,
        mask_id=read.mask_id,
        cls_id=read.cls_id,
        examples=(),
        account=Account(),
    )


def export_tensorflow1(folder: Path, output: Path) -> None:
    """Writes an export folder as a TensorFlow 1 checkpoint, with the files that the published programs want.

    bert_model.ckpt.*    the weights, without an optimizer's moments
    bert_config.json     the model's shape
    vocab.types, .txt    its tokens by id
    summary.json         what it was made of

    Args:
        folder: An export folder, or another Hugging Face folder of `BertForPreTraining` with a vocabulary.
        output: The folder to write; an earlier output is replaced.

    Raises:
        UserError: a file is missing or doesn't fit; nothing is written then.
    """
    read = read_hugging_face(folder)
    if read.missing:
        raise UserError(f"{folder} lacks {shown(read.missing)}: take a folder with both heads")
    if read.vocabulary is None:
        raise UserError(f"{folder} has no vocabulary: take a folder with vocab.json or vocab.txt")
    tokens = row_names(read.vocabulary, read.config.vocab_size or 0)
    config = published_config(read.config, Conventions(read.mask_id, read.cls_id))
    with atomic_folder(output, "convert", folder) as temporary:
        write_tensorflow1(temporary / CHECKPOINT, read.weights, read.config)
        write_json(temporary / CONFIG, config)
        types = {token: index for index, token in enumerate((TUTORIAL_PAD, *tokens[1:]))}
        write_pickles(temporary / TYPES, [types])
        (temporary / TOKENS).write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
        write_json(temporary / SUMMARY_FILE, {"weights_sha256": read.sha256})
    if odd := _computed_otherwise(read):
        print(f"the published programs compute otherwise, unless their code is changed: {'; '.join(odd)}")
    print(f"wrote {output / CHECKPOINT} of {folder}")


def _computed_otherwise(model: Pretrained) -> list[str]:
    """What the published programs keep in their code, and this model has otherwise."""
    config = model.config
    odd = []
    if config.hidden_act == "gelu":
        odd.append("its gelu is the exact form, 0.5 * x * (1 + erf(x / sqrt(2))), theirs the tanh form")
    if config.layer_norm_eps != IN_PUBLISHED_CODE["layer_norm_eps"]:
        odd.append(f"its layer_norm_eps is {config.layer_norm_eps}, theirs 1e-12")
    if config.stay_pooling in ("sum", "mean"):
        odd.append(f"its stay head reads the {config.stay_pooling} over positions, theirs the first one")
    elif config.stay_pooling == "first" and model.cls_id is not None:
        odd.append("its stay head reads the first code, theirs the first position")
    return odd
