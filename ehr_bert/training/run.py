"""One run of the pretraining program: its inputs are checked, then it trains, evaluates, or both."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from ehr_bert.errors import UserError
from ehr_bert.examples.reading import ExamplesInfo, describe, evaluation_batches, training_batches
from ehr_bert.files import written_aside
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.pretraining import PretrainingModel, build_model
from ehr_bert.training.checkpoints import has_checkpoint, load_weights, newest_checkpoint, step_of
from ehr_bert.training.devices import Tpu, choose_strategy
from ehr_bert.training.evaluation import Evaluation, evaluate
from ehr_bert.training.folder import TrainingFolder, read_json, write_json
from ehr_bert.training.loop import train
from ehr_bert.training.metrics_log import MetricsLog
from ehr_bert.training.recipe import Recipe
from ehr_bert.vocabulary import Vocabulary


@dataclass(frozen=True)
class Run:
    """What is asked of a run.

    Attributes:
        examples: TFRecord files to train on.
        output: The training folder, made if it is missing and gone on with if it holds a training.
        config: The model's shape.
        recipe: How to train.
        eval_examples: TFRecord files to evaluate on; those of the training if None.
        vocabulary: A vocabulary file; the one beside the examples if None.
        init_checkpoint: Where the first weights come from: a training folder or a checkpoint in one.
        train: Whether to train.
        evaluate: Whether to evaluate.
        eval_batch_size: Examples a batch.
        max_eval_steps: Batches of an evaluation at most.
        checkpoint_every: Steps between checkpoints.
        report_every: Steps between reports.
        tpu: The TPU to train on; this machine's GPUs or CPU if None.
    """

    examples: list[Path]
    output: Path
    config: ModelConfig
    recipe: Recipe
    eval_examples: list[Path] | None = None
    vocabulary: Path | None = None
    init_checkpoint: Path | None = None
    train: bool = True
    evaluate: bool = True
    eval_batch_size: int = 8
    max_eval_steps: int = 100
    checkpoint_every: int = 10_000
    report_every: int = 1000
    tpu: Tpu | None = None


def run(asked: Run) -> Evaluation | None:
    """Does what is asked, leaves a training folder, and prints what it did.

    Returns:
        The evaluation, if one was asked for.

    Raises:
        UserError: nothing is asked for; the examples, the vocabulary, the config and the folder don't fit
            together; there is nothing to evaluate.
    """
    if not (asked.train or asked.evaluate):
        raise UserError("nothing to do: ask for training (do_train), evaluation (do_eval) or both")
    info = describe(asked.examples)
    vocabulary = _vocabulary(asked, info)
    if asked.eval_examples:
        _vocabulary(asked, describe(asked.examples + asked.eval_examples))
    config = _fitting_config(asked, vocabulary, info)
    if asked.train:
        _claim(asked, config, vocabulary, info)
    strategy = choose_strategy(asked.tpu)
    with strategy.scope():
        model = build_model(config, asked.recipe.seed)
    if asked.train:
        _train(asked, model, info, strategy)
    return _evaluate(asked, model, strategy) if asked.evaluate else None


def _train(asked: Run, model: PretrainingModel, info: ExamplesInfo, strategy: tf.distribute.Strategy) -> None:
    recipe, config = asked.recipe, model.config
    if asked.init_checkpoint:
        print(f"first weights from {load_weights(model, asked.init_checkpoint)}")
    print(
        f"pretraining on {info.examples:,} examples of up to {info.longest} tokens: "
        f"{config.vocab_size:,} tokens, {model.count_params():,} parameters, "
        f"{recipe.steps:,} steps of {recipe.batch_size} examples "
        f"({recipe.steps * recipe.batch_size / info.examples:,.1f} epochs)",
        flush=True,
    )
    if info.longest > recipe.max_seq_length:
        print(f"some examples are longer (up to {info.longest} codes): what lies beyond is cut off")
    length, predictions = _window(recipe, info)

    def batches_from(first: int) -> tf.data.Dataset:
        return training_batches(
            asked.examples,
            examples=info.examples,
            batch_size=recipe.batch_size,
            max_seq_length=length,
            max_predictions_per_seq=predictions,
            max_visits=config.type_vocab_size,
            seed=recipe.seed,
            start_step=first,
        )

    done = train(
        model, recipe, batches_from, asked.output, strategy, asked.checkpoint_every, asked.report_every
    )
    print(f"trained: {newest_checkpoint(asked.output)}, {done:,} steps")


def _evaluate(asked: Run, model: PretrainingModel, strategy: tf.distribute.Strategy) -> Evaluation:
    folder = TrainingFolder(asked.output)
    checkpoint = newest_checkpoint(asked.output if asked.train else asked.init_checkpoint or asked.output)
    if not asked.train:
        load_weights(model, Path(checkpoint))
    if asked.eval_examples is None:
        print("evaluating on the TRAINING examples: give held-out ones (--eval_file) for honest figures")
    examples = asked.eval_examples or asked.examples
    length, predictions = _window(asked.recipe, describe(examples))
    batches = evaluation_batches(
        examples,
        batch_size=asked.eval_batch_size,
        max_seq_length=length,
        max_predictions_per_seq=predictions,
        max_visits=model.config.type_vocab_size,
        max_steps=asked.max_eval_steps,
    )
    found = evaluate(strategy, model, batches, step_of(checkpoint))
    folder.path.mkdir(parents=True, exist_ok=True)
    lines = [f"{key} = {value}\n" for key, value in found.published().items()]
    with written_aside(folder.eval_results_file) as (aside,):
        aside.write_text("".join(lines), encoding="utf-8")
    MetricsLog(folder).write(found.global_step, "eval", found.figures())
    print(found)
    return found


def _window(recipe: Recipe, info: ExamplesInfo) -> tuple[int, int]:
    """Positions and masked places of a batch: the recipe's, but no more than any example fills.

    Padding changes no figure, so none is computed that all examples share.
    """
    return (
        min(recipe.max_seq_length, info.longest),
        min(recipe.max_predictions_per_seq, info.max_predictions_per_seq),
    )


def _fitting_config(asked: Run, vocabulary: Vocabulary | None, info: ExamplesInfo) -> ModelConfig:
    """The config with its `vocab_size`, once it is known to fit the examples and the window."""
    config = asked.config
    if vocabulary and (asked.vocabulary or config.vocab_size is None):
        config = dataclasses.replace(config, vocab_size=len(vocabulary))
    if config.vocab_size is None:
        raise UserError("the examples come without a vocabulary: name one (--vocab_file), or set vocab_size")
    if vocabulary and config.vocab_size != len(vocabulary):
        raise UserError(
            f"the config's vocab_size is {config.vocab_size}, the examples' vocabulary has "
            f'{len(vocabulary)} tokens: write "vocab_size": null, or name the vocabulary (--vocab_file)'
        )
    if info.max_id >= config.vocab_size:
        raise UserError(
            f"the examples hold ids up to {info.max_id}, and vocab_size is {config.vocab_size}: "
            "it must be larger, or the vocabulary is another's"
        )
    if asked.recipe.max_seq_length > config.max_position_embeddings:
        raise UserError(
            f"max_seq_length {asked.recipe.max_seq_length} is over the config's max_position_embeddings "
            f"{config.max_position_embeddings}"
        )
    if config.stay_pooling == "cls" and info.kind is not None and info.cls_id is None:
        print("the examples have no [CLS]: the stay objective is read off the first code")
        config = dataclasses.replace(config, stay_pooling="first")
    return config


def _vocabulary(asked: Run, info: ExamplesInfo) -> Vocabulary | None:
    """The vocabulary that is named, or else the examples' own."""
    if asked.vocabulary is None:
        return info.vocabulary
    vocabulary = Vocabulary.read(asked.vocabulary)
    if info.vocabulary and info.vocabulary.sha256 != vocabulary.sha256:
        raise UserError(
            f"{asked.vocabulary} is not the vocabulary that {info.files[0]} was made with: take that one"
        )
    return vocabulary


def _claim(asked: Run, config: ModelConfig, vocabulary: Vocabulary | None, info: ExamplesInfo) -> None:
    """Writes down what the training is; a folder that holds another training is refused.

    Raises:
        UserError: the folder's training has another config or recipe, or other examples.
    """
    folder = TrainingFolder(asked.output)
    examples = {
        **info.to_dict(),
        # Examples that tell nothing of themselves are the original program's, which masks with 0.
        "mask_id": info.mask_id or 0,
        "vocabulary_sha256": vocabulary.sha256 if vocabulary else None,
    }
    descriptions = {
        folder.config_file: config.to_dict(),
        folder.recipe_file: asked.recipe.to_dict(),
        folder.examples_file: examples,
    }
    for file, values in descriptions.items():
        before = read_json(file) if has_checkpoint(folder.path) else values
        for key in values:
            if before.get(key) != values[key]:
                raise UserError(
                    f"{folder.path} holds a training whose {key} is {before.get(key)}, not {values[key]} "
                    f"({file.name}): take the same, or another folder"
                )
    folder.path.mkdir(parents=True, exist_ok=True)
    if vocabulary:
        vocabulary.write(folder.vocabulary_file)
    # Where the examples lie is no part of what the training is: they may be moved.
    descriptions[folder.examples_file] = {
        **examples,
        "paths": [str(file.absolute()) for file in asked.examples],
    }
    for file, values in descriptions.items():
        write_json(file, values)
