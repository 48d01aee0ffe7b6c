"""The export folder: a training's model as stock Hugging Face files.

config.json        the model's shape     tokenizer_config.json,        the tokenizer
model.safetensors  its weights           history_tokenizer.py, vocab.json,
README.md          the model card        tokenizer.json
summary.json       where it comes from, and how equal it is
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from transformers import BertForPreTraining

from ehr_bert.errors import UserError
from ehr_bert.examples.layout import Layout
from ehr_bert.examples.reading import open_examples
from ehr_bert.export.card import model_card
from ehr_bert.export.model import hugging_face_model
from ehr_bert.export.parity import TOLERANCE, check_parity
from ehr_bert.export.random_examples import random_examples
from ehr_bert.export.tokenizer import unwritable, write_tokenizer
from ehr_bert.files import FOLDER_MARK, folder_written_aside
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.pretraining import Batch
from ehr_bert.training.checkpoints import newest_checkpoint
from ehr_bert.training.folder import TrainingFolder, load_model, read_json, write_json
from ehr_bert.vocabulary import Vocabulary

COMPARED_BATCHES, COMPARED_TOKENS = 4, 2048
"""How much of the real examples the models are compared on: enough to tell a difference, soon done."""


def export(
    training: Path, output: Path, vocabulary_file: Path | None = None, examples: Sequence[Path] = ()
) -> None:
    """Writes the export folder of a trained model, once it is shown to compute the same.

    Args:
        training: A training folder, for its newest checkpoint, or a checkpoint `folder/model.ckpt-<step>`.
        output: The export folder; an earlier one is replaced.
        vocabulary_file: The vocabulary, where the training folder holds none.
        examples: TFRecord files to compare the models on; those of the training, as long as they are where
            they were, if none are named. Random examples are compared in any case.

    Raises:
        UserError: a file is missing or doesn't fit, or the models differ; nothing is written then.
    """
    checkpoint = Path(newest_checkpoint(training))
    source = TrainingFolder(checkpoint.parent)
    vocabulary = _vocabulary(source, vocabulary_file)
    conventions = read_json(source.examples_file)
    mask_id, cls_id = conventions["mask_id"], conventions["cls_id"]
    trained_on = [path for path in map(Path, conventions.get("paths", [])) if path.exists()]
    model = load_model(checkpoint)
    code_ids = vocabulary.code_ids[vocabulary.code_ids < model.config.vocab_size]
    batches = chain(
        [random_examples(model.config, code_ids, mask_id, cls_id)],
        _real_batches(model.config, examples or trained_on),
    )
    with folder_written_aside(output) as aside:
        hugging_face_model(model).save_pretrained(aside)
        exported = BertForPreTraining.from_pretrained(aside)
        parity = check_parity(model, exported, batches)
        print(parity)
        tokenizer = write_tokenizer(aside, model.config, vocabulary, mask_id, cls_id)
        results = source.eval_results_file.read_text() if source.eval_results_file.exists() else None
        codes = [vocabulary.tokens[index] for index in code_ids[:2]]
        card = model_card(exported, tokenizer, codes, parity, results)
        (aside / "README.md").write_text(card, encoding="utf-8")
        summary = {
            "checkpoint": checkpoint.name,
            "vocabulary_sha256": vocabulary.sha256,
            "tolerance": TOLERANCE,
            "parity": asdict(parity),
        }
        write_json(aside / FOLDER_MARK, summary)
    if odd := unwritable(vocabulary):
        print(f"{len(odd):,} codes hold a blank or |, such as {odd[0]!r}: the tokenizer can't be given them")
    print(f"exported {checkpoint} to {output}")


def _vocabulary(source: TrainingFolder, file: Path | None) -> Vocabulary:
    own = source.vocabulary()
    named = Vocabulary.read(file) if file else own
    if named is None:
        raise UserError(f"{source.path} has no vocabulary: name the one it was trained with (--vocab_file)")
    if own and own.sha256 != named.sha256:
        raise UserError(f"{file} is not the vocabulary that {source.path} was trained with: leave it out")
    return named


def _real_batches(config: ModelConfig, files: Sequence[Path]) -> Iterator[tuple[Batch, Layout]]:
    if not files:
        return
    examples = open_examples(files)
    batches = examples.evaluation(
        batch_tokens=COMPARED_TOKENS,
        replicas=1,
        max_visits=config.type_vocab_size,
        max_seq_length=config.max_position_embeddings,
        max_batches=COMPARED_BATCHES,
    )
    for batch in batches.dataset().as_numpy_iterator():
        if (largest := batch["token_ids"].max()) >= (config.vocab_size or 0):
            raise UserError(
                f"the examples hold the id {largest}, the model has {config.vocab_size} tokens: "
                "name examples like those that it was trained on"
            )
        yield batch, batches.layout
