"""One run of pretraining: its inputs are checked, then it trains, evaluates, or both."""

import contextlib
import dataclasses
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf

from ehr_bert.errors import UserError
from ehr_bert.examples import packed
from ehr_bert.examples.source import ExamplesInfo, Reading
from ehr_bert.examples.training_masking import TrainingMasking
from ehr_bert.examples.updates import BatchSize
from ehr_bert.files import read_json, write_json
from ehr_bert.model.pretraining import PretrainingModel, build_model
from ehr_bert.settings import differences
from ehr_bert.toml import toml_text, toml_value
from ehr_bert.training.devices import Devices, choose_strategy, device_kind, is_chief, resolve_precision
from ehr_bert.training.evaluation import Evaluator, record_evaluation
from ehr_bert.training.initial import Beginning, begin_with, read_pretrained, takes_shape
from ehr_bert.training.inputs import FeatureSource, PretrainingInputs, open_inputs
from ehr_bert.training.loop import PhasePlan, StopReason, TrainingOutcome, train
from ehr_bert.training.recipe import Phase, Recipe
from ehr_bert.training.record.ancestry import TRAINING, Corpus, Generation, ancestry_of, record
from ehr_bert.training.record.checkpoints import has_checkpoint, load_weights, newest_checkpoint, step_of
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.training.summary import summarise_training
from ehr_bert.weights.pretrained import Pretrained

MANY_EPOCHS = 50
"""More than these in a phase are remarked on."""


@dataclass(frozen=True)
class PretrainingRequest:
    """What is asked of a run.

    Attributes:
        features: Examples; of several lengths, for phases whose windows differ.
        output: The training folder, made if it is missing and gone on with if it holds a training.
        recipe: How to train.
        devices: Where to train.
        force: Whether a training of another recipe, or of other examples, is gone on with.
        profile: Whether some steps are profiled, for TensorBoard.
        vocabulary: Sets the model's `vocab_size`; the vocabulary beside the examples if None.
        init_config: Config of an `init` that is a TensorFlow 1 checkpoint; the one beside it if None.
        max_predictions_per_seq: Masked codes that count of each of the tutorial's examples; all if None.
        eval_batch_size: Examples that a device evaluates at a time; as many as fill a micro-batch if None.
        train: Whether to train.
        evaluate: Whether to evaluate.
    """

    features: Sequence[FeatureSource]
    output: Path
    recipe: Recipe
    devices: Devices = field(default_factory=Devices)
    force: bool = False
    profile: bool = False
    vocabulary: Path | None = None
    init_config: Path | None = None
    max_predictions_per_seq: int | None = None
    eval_batch_size: int | None = None
    train: bool = True
    evaluate: bool = True


def pretrain(asked: PretrainingRequest) -> TrainingOutcome:
    """Does what is asked, leaves a training folder, and prints what it did.

    Returns:
        How far the training is, and the evaluation, if one was asked for.

    Raises:
        UserError: nothing is asked for; the examples, the vocabulary, the recipe and the folder don't fit
            together; there is nothing to evaluate.
    """
    if not (asked.train or asked.evaluate):
        raise UserError("nothing to do: ask for training (do_train), evaluation (do_eval) or both")
    strategy = choose_strategy(asked.devices)
    chief = is_chief(strategy)
    with contextlib.nullcontext() if chief else contextlib.redirect_stdout(io.StringIO()):
        parent = _parent(asked)
        inputs = open_inputs(
            _recipe(asked), asked.features, asked.vocabulary, asked.max_predictions_per_seq, parent
        )
        if asked.train:
            _check_claim(asked, inputs)
        precision = resolve_precision(inputs.recipe.precision, device_kind(strategy))
        with strategy.scope():
            model = build_model(inputs.recipe.model, inputs.recipe.seed, precision)
        evaluator = _evaluator(asked, inputs, model, strategy) if asked.evaluate else None
        if evaluator and not asked.train:
            return _evaluate(asked, inputs, parent, model, evaluator)
        return _train(asked, inputs, parent, model, strategy, evaluator, precision)


def _parent(asked: PretrainingRequest) -> Pretrained | None:
    """The model that this run takes its weights from, if it doesn't go on with a training."""
    if not asked.recipe.init or (asked.train and has_checkpoint(asked.output)):
        return None
    return read_pretrained(Path(asked.recipe.init), asked.init_config)


def _recipe(asked: PretrainingRequest) -> Recipe:
    """The recipe, with the shape that a training which is gone on with took from its parent."""
    recipe = asked.recipe
    if asked.train and recipe.init and has_checkpoint(asked.output) and takes_shape(recipe.model):
        return dataclasses.replace(recipe, model=TrainingFolder(asked.output).config())
    return recipe


def _train(
    asked: PretrainingRequest,
    inputs: PretrainingInputs,
    parent: Pretrained | None,
    model: PretrainingModel,
    strategy: tf.distribute.Strategy,
    evaluator: Evaluator | None,
    precision: str,
) -> TrainingOutcome:
    recipe, folder = inputs.recipe, TrainingFolder(asked.output)
    plans = plan_phases(inputs, strategy.num_replicas_in_sync)
    if parent:
        print(_begin(inputs, parent, model))
    if is_chief(strategy):
        _claim(folder, inputs, parent)
    if parent and evaluator:
        print(evaluator(0))
    _tell(inputs, plans, model, strategy, precision)
    outcome = train(
        model,
        recipe,
        plans,
        folder,
        strategy,
        compiled=_compiled(recipe),
        evaluate=evaluator,
        profile=asked.profile,
    )
    if is_chief(strategy):
        corrupt = sum(info.corrupt for info in inputs.trained_on)
        summary = summarise_training(
            folder, outcome, model.config, plans, strategy, precision=precision, corrupt_records=corrupt
        )
        print(summary)
        print(f"trained: {newest_checkpoint(folder.path)}")
    return outcome


def _evaluator(
    asked: PretrainingRequest,
    inputs: PretrainingInputs,
    model: PretrainingModel,
    strategy: tf.distribute.Strategy,
) -> Evaluator:
    recipe, phase, held_out = inputs.recipe, inputs.recipe.phases[-1], inputs.held_out
    if inputs.evaluates_training:
        print("evaluating on the TRAINING examples: give held-out ones (--eval_file) for honest figures")
    length = min(held_out.info.longest, phase.max_seq_length or held_out.info.longest)
    batches = held_out.evaluation(
        _reading(recipe, phase),
        batch_tokens=asked.eval_batch_size * length if asked.eval_batch_size else phase.micro_batch_tokens,
        replicas=strategy.num_replicas_in_sync,
        max_batches=recipe.evaluation.max_batches,
    )
    return Evaluator(
        strategy, model, batches, recipe, vocabulary=inputs.vocabulary, compiled=_compiled(recipe)
    )


def _begin(inputs: PretrainingInputs, parent: Pretrained, model: PretrainingModel) -> Beginning:
    examples, recipe = inputs.trained_on[0], inputs.recipe
    return begin_with(
        parent,
        model,
        inputs.vocabulary,
        _mask_id(examples),
        examples.cls_id,
        recipe.init_new_codes,
        inputs.files,
    )


def _mask_id(examples: ExamplesInfo) -> int:
    """The id that hides a code; examples that tell nothing of themselves are the original program's."""
    return examples.mask_id or 0


def _evaluate(
    asked: PretrainingRequest,
    inputs: PretrainingInputs,
    parent: Pretrained | None,
    model: PretrainingModel,
    evaluator: Evaluator,
) -> TrainingOutcome:
    """Evaluates a model that is there already."""
    if parent:
        print(_begin(inputs, parent, model))
        step = ancestry_of(parent).generations[0].steps or 0
    else:
        step = step_of(load_weights(model, asked.output))
    found = evaluator(step)
    asked.output.mkdir(parents=True, exist_ok=True)
    record_evaluation(TrainingFolder(asked.output), found)
    print(found)
    return TrainingOutcome(step, StopReason.FINISHED, found, {})


def plan_phases(inputs: PretrainingInputs, replicas: int) -> list[PhasePlan]:
    """The recipe's phases, ready to be trained on so many devices."""
    plans = []
    recipe = inputs.recipe
    for number, (phase, mixture) in enumerate(zip(recipe.phases, inputs.train, strict=True)):
        updates = mixture.updates(
            _reading(recipe, phase),
            batch=_batch(phase),
            micro_batch_tokens=phase.micro_batch_tokens,
            replicas=replicas,
            seed=(recipe.seed, number),
        )
        steps = phase.steps or math.ceil((phase.epochs or 0) * updates.updates_per_epoch)
        shares = {name: float(share) for name, share in mixture.shares.items()}
        plans.append(PhasePlan(updates, steps, phase, shares if len(shares) > 1 else {}))
    return plans


def _batch(phase: Phase) -> BatchSize:
    return BatchSize(phase.batch_patients, phase.batch_tokens)


def _reading(recipe: Recipe, phase: Phase) -> Reading:
    masked = recipe.masked_codes
    return Reading(
        max_visits=recipe.model.type_vocab_size,
        masking=TrainingMasking(masked.probability, masked.mask_share, masked.random_share),
        stay_threshold_days=recipe.prolonged_stay.threshold_days,
        max_seq_length=phase.max_seq_length,
    )


def _compiled(recipe: Recipe) -> bool:
    return recipe.compile is not False


def _tell(
    inputs: PretrainingInputs,
    plans: Sequence[PhasePlan],
    model: PretrainingModel,
    strategy: tf.distribute.Strategy,
    precision: str,
) -> None:
    """Prints what is about to be trained, on what, and where."""
    patients = {name: 0 for name, _ in inputs.corpora}
    for name, info in inputs.corpora:
        patients[name] = max(patients[name], info.patients)  # the same ones, at each length
    replicas, kind = strategy.num_replicas_in_sync, device_kind(strategy)
    print(
        f"pretraining on {sum(patients.values()):,} patients: {model.config.vocab_size:,} tokens, "
        f"{model.count_params():,} parameters, {precision} on {replicas} {kind}{'s' if replicas > 1 else ''}"
    )
    for number, (plan, mixture) in enumerate(zip(plans, inputs.train, strict=True), 1):
        phase, updates = plan.phase, plan.updates
        epochs = plan.steps / updates.updates_per_epoch
        batch = (
            f"{phase.batch_patients:,} patients" if phase.batch_patients else f"{phase.batch_tokens:,} tokens"
        )
        print(
            f"phase {number} of {len(plans)}: {plan.steps:,} updates of {batch} "
            f"({epochs:,.1f} epochs), each {updates.micro_batches} x "
            f"{updates.layout.positions:,} positions a device"
        )
        if plan.shares:
            fractions = mixture.fractions(_batch(phase))
            print(
                "  mixed of "
                + ", ".join(
                    f"{share:.1%} {name} ({float(plan.steps * fractions[name]):,.1f} epochs)"
                    for name, share in plan.shares.items()
                )
            )
        wanted = phase.max_seq_length
        for info in (examples.info for examples in mixture.corpora.values()):
            if info.kind == packed.PACKED and wanted and wanted > info.max_seq_length:
                print(f"the examples are packed in windows of up to {info.max_seq_length}, not {wanted}")
            if wanted and info.longest > wanted:
                print(f"some examples have up to {info.longest} tokens: what lies beyond {wanted} is cut off")
        if epochs > MANY_EPOCHS:
            print(
                f"each patient is seen {epochs:,.0f} times in phase {number}: so small data may be learnt by "
                "heart (watch the held-out loss, take fewer steps, or state early_stopping.patience)"
            )
        if phase.warmup(plan.steps) >= plan.steps:
            print("the warm-up is as long as the phase: the learning rate never reaches its peak")
    print(end="", flush=True)


def _check_claim(asked: PretrainingRequest, inputs: PretrainingInputs) -> None:
    """Refuses a folder that holds another training.

    Raises:
        UserError: the folder's training has another recipe, or other examples.
    """
    folder = TrainingFolder(asked.output)
    if has_checkpoint(folder.path) and not asked.force:
        _refuse(folder.recipe_file, Recipe.read(folder.recipe_file).differences(inputs.recipe))
        # Where the examples lie is no part of what the training is: they may be moved.
        before = {key: value for key, value in read_json(folder.examples_file).items() if key != "paths"}
        _refuse(folder.examples_file, differences(before, _examples(inputs)))


def _claim(folder: TrainingFolder, inputs: PretrainingInputs, parent: Pretrained | None) -> None:
    """Writes down what the training is."""
    recipe, vocabulary = inputs.recipe, inputs.vocabulary
    folder.path.mkdir(parents=True, exist_ok=True)
    if vocabulary:
        vocabulary.write(folder.vocabulary_file)
    paths = [str(file.absolute()) for file in inputs.files]
    write_json(folder.config_file, recipe.model.to_dict())
    write_json(folder.examples_file, {**_examples(inputs), "paths": paths})
    recipe.write(folder.recipe_file)
    record(folder.path, _generation(inputs), parent, goes_on=has_checkpoint(folder.path))


def _examples(inputs: PretrainingInputs) -> dict[str, Any]:
    """What the training folder says of the examples."""
    first, vocabulary = inputs.trained_on[0], inputs.vocabulary
    return {
        "mask_id": _mask_id(first),
        "cls_id": first.cls_id,
        "vocabulary_sha256": vocabulary.sha256 if vocabulary else None,
        "examples": [({"corpus": name} if name else {}) | info.to_dict() for name, info in inputs.corpora],
    }


def _generation(inputs: PretrainingInputs) -> Generation:
    """What the model's ancestry says of this training."""
    vocabulary = inputs.vocabulary
    return Generation(
        origin=TRAINING,
        vocabulary_sha256=vocabulary.sha256 if vocabulary else None,
        tokens=inputs.recipe.model.vocab_size,
        recipe_sha256=hashlib.sha256(toml_text(inputs.recipe.to_dict()).encode()).hexdigest(),
        corpora=tuple(
            Corpus(info.fingerprint, info.patients, info.real_tokens, name or None)
            for name, info in inputs.corpora
        ),
    )


def _refuse(file: Path, found: dict[str, tuple[Any, Any]]) -> None:
    """Refuses to go on where something differs.

    Raises:
        UserError: it does.
    """
    if found:
        told = [f"{key} is {_shown(there)}, not {_shown(asked)}" for key, (there, asked) in found.items()]
        raise UserError(
            f"{file.parent} holds a training whose {', '.join(told[:4])}{', ...' * (len(told) > 4)} "
            f"({file.name}): take the same, or another folder, or go on all the same (--force)"
        )


def _shown(value: Any) -> str:
    return "none" if value is None else toml_value(value)
