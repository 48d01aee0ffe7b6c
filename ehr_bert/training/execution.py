"""Pretraining from start to end: check the inputs, build the model, train and evaluate it."""

import dataclasses
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from ehr_bert.errors import UserError
from ehr_bert.files import locked_folder
from ehr_bert.logs import log_level, warn
from ehr_bert.model.pretraining import PretrainingModel, build_model
from ehr_bert.training.claim import check_folder, claim_folder
from ehr_bert.training.devices import choose_strategy, device_kind, is_chief, resolve_precision
from ehr_bert.training.evaluation import EvaluationResult, Evaluator, record_evaluation
from ehr_bert.training.initial import initialise_from, read_pretrained, takes_shape
from ehr_bert.training.inputs import PretrainingInputs, open_inputs
from ehr_bert.training.loop import StopReason, train
from ehr_bert.training.phases import PhasePlan, log_phases, plan_phases, reading_of
from ehr_bert.training.recipe import Recipe
from ehr_bert.training.record.ancestry import ancestry_of
from ehr_bert.training.record.checkpoints import has_checkpoint, load_weights, newest_checkpoint, step_of
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.training.request import PretrainingRequest
from ehr_bert.training.summary import Summary, summarise_training
from ehr_bert.weights.pretrained import Pretrained

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainingResult:
    """The result of a `PretrainingRequest`.

    Attributes:
        steps: Number of updates of the model, over all processes.
        reason: Why the training run ended.
        evaluation: The last evaluation. None if none was requested, or if the training run was interrupted.
        checkpoint: The newest checkpoint, or the model that was evaluated. None in workers that do not write.
        summary: Speed and result of the training run. None without training and in workers that do not write.
    """

    steps: int
    reason: StopReason
    evaluation: EvaluationResult | None
    checkpoint: Path | None
    summary: Summary | None = None

    def __str__(self) -> str:
        parts = [self.evaluation, self.summary, f"checkpoint: {self.checkpoint}"]
        return "\n".join(str(part) for part in parts if part)


def pretrain(request: PretrainingRequest) -> PretrainingResult:
    """Train a model, evaluate it, or both, and write the training folder.

    Raises:
        UserError: Nothing is requested (key `nothing-to-do`); the examples, the vocabulary, the recipe and
            the folder do not fit together; there is nothing to evaluate; or another process writes to the
            folder (`output-in-use`).
    """
    if not (request.train or request.evaluate):
        raise UserError("nothing-to-do", "nothing to do. Set --do_train, --do_eval or both.")
    strategy = choose_strategy(request.devices)
    # All workers log the same messages, so only one of them logs.
    with (
        log_level(None if is_chief(strategy) else logging.ERROR),
        locked_folder(request.output) if is_chief(strategy) else nullcontext(),
    ):
        parent = _parent(request)
        inputs = open_inputs(
            _recipe(request), request.features, request.vocabulary, request.max_predictions_per_seq, parent
        )
        if request.train and not request.force:
            check_folder(TrainingFolder(request.output), inputs)
        precision = resolve_precision(inputs.recipe.precision, device_kind(strategy))
        with strategy.scope():
            model = build_model(
                inputs.recipe.model, inputs.recipe.seed, precision, inputs.recipe.additional_heads()
            )
        evaluator = _evaluator(request, inputs, model, strategy) if request.evaluate else None
        if evaluator and not request.train:
            return _evaluate(request, inputs, parent, model, strategy, evaluator)
        return _train(request, inputs, parent, model, strategy, evaluator, precision)


def _parent(request: PretrainingRequest) -> Pretrained | None:
    """Return the model to initialise from, unless a training run is resumed."""
    if not request.recipe.init or (request.train and has_checkpoint(request.output)):
        return None
    return read_pretrained(Path(request.recipe.init), request.init_config)


def _recipe(request: PretrainingRequest) -> Recipe:
    """Return the recipe. A resumed training run keeps the shape of its parent."""
    recipe = request.recipe
    if request.train and recipe.init and has_checkpoint(request.output) and takes_shape(recipe.model):
        return dataclasses.replace(recipe, model=TrainingFolder(request.output).config())
    return recipe


def _train(
    request: PretrainingRequest,
    inputs: PretrainingInputs,
    parent: Pretrained | None,
    model: PretrainingModel,
    strategy: tf.distribute.Strategy,
    evaluator: Evaluator | None,
    precision: str,
) -> PretrainingResult:
    recipe, folder = inputs.recipe, TrainingFolder(request.output)
    plans = plan_phases(inputs, strategy.num_replicas_in_sync)
    if parent:
        _initialise(inputs, parent, model)
    if is_chief(strategy):
        claim_folder(folder, inputs, parent)
    if parent and evaluator:
        logger.info(str(evaluator(0)))
    _log_start(inputs, plans, model, strategy, precision)
    outcome = train(
        model,
        recipe,
        plans,
        folder,
        strategy,
        compiled=_compiled(recipe),
        evaluate=evaluator,
        profile=request.profile,
    )
    summary, checkpoint = None, None
    if is_chief(strategy):
        corrupt = sum(info.corrupt for info in inputs.trained_on)
        summary = summarise_training(
            folder, outcome, model.config, plans, strategy, precision=precision, corrupt_records=corrupt
        )
        checkpoint = Path(newest_checkpoint(folder.path))
    return PretrainingResult(outcome.steps, outcome.reason, outcome.evaluation, checkpoint, summary)


def _evaluate(
    request: PretrainingRequest,
    inputs: PretrainingInputs,
    parent: Pretrained | None,
    model: PretrainingModel,
    strategy: tf.distribute.Strategy,
    evaluator: Evaluator,
) -> PretrainingResult:
    """Evaluate the model to initialise from, or else the newest checkpoint in the folder."""
    if parent:
        _initialise(inputs, parent, model)
        checkpoint, step = parent.source, ancestry_of(parent).generations[0].steps or 0
    else:
        prefix = load_weights(model, request.output)
        checkpoint, step = Path(prefix), step_of(prefix)
    evaluation = evaluator(step)
    if is_chief(strategy):
        request.output.mkdir(parents=True, exist_ok=True)
        record_evaluation(TrainingFolder(request.output), evaluation)
    return PretrainingResult(
        step, StopReason.FINISHED, evaluation, checkpoint if is_chief(strategy) else None
    )


def _evaluator(
    request: PretrainingRequest,
    inputs: PretrainingInputs,
    model: PretrainingModel,
    strategy: tf.distribute.Strategy,
) -> Evaluator:
    recipe, phase, held_out = inputs.recipe, inputs.recipe.phases[-1], inputs.held_out
    if inputs.evaluates_training:
        warn(
            logger,
            "no-held-out-examples",
            "the model is evaluated on the training examples, which overstates its performance. "
            "Name held-out examples (--eval_file).",
        )
    length = min(held_out.info.longest, phase.max_seq_length or held_out.info.longest)
    patients = request.eval_batch_size
    batches = held_out.evaluation(
        reading_of(recipe, phase),
        batch_tokens=patients * length if patients else phase.micro_batch_tokens,
        replicas=strategy.num_replicas_in_sync,
        max_batches=recipe.evaluation.max_batches,
    )
    return Evaluator(
        strategy, model, batches, recipe, vocabulary=inputs.vocabulary, compiled=_compiled(recipe)
    )


def _initialise(inputs: PretrainingInputs, parent: Pretrained, model: PretrainingModel) -> None:
    initialisation = initialise_from(
        parent,
        model,
        inputs.vocabulary,
        inputs.mask_id,
        inputs.cls_id,
        inputs.recipe.init_new_codes,
        inputs.files,
    )
    logger.info(str(initialisation))


def _compiled(recipe: Recipe) -> bool:
    return recipe.compile is not False


def _log_start(
    inputs: PretrainingInputs,
    plans: Sequence[PhasePlan],
    model: PretrainingModel,
    strategy: tf.distribute.Strategy,
    precision: str,
) -> None:
    """Log the size of the model, of the data and of the phases, and the devices."""
    patients = {name: 0 for name, _ in inputs.corpora}
    for name, info in inputs.corpora:
        patients[name] = max(patients[name], info.patients)  # the same patients at each window length
    replicas, kind = strategy.num_replicas_in_sync, device_kind(strategy)
    logger.info(
        f"pretraining on {sum(patients.values()):,} patients: {model.config.vocab_size:,} tokens, "
        f"{model.count_params():,} parameters, {precision} on {replicas} {kind}{'s' if replicas > 1 else ''}"
    )
    log_phases(inputs, plans)
