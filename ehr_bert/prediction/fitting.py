"""Fitting of a predictor to labels, with early stopping on the validation split."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ehr_bert.errors import UserError
from ehr_bert.metrics.summary import auroc_of
from ehr_bert.prediction.batches import rows_by_length, shuffled_rows
from ehr_bert.prediction.encoders import BertEncoder
from ehr_bert.prediction.frozen import PredictorInputs, batch_of, frozen_vectors
from ehr_bert.prediction.optimization import (
    FitSettings,
    Loss,
    OptimizerStep,
    Runtime,
    epochs_of,
    parameter_groups,
)
from ehr_bert.prediction.predictor import Predictor
from ehr_bert.prediction.reading import Encoded

EVALUATION_TOKENS = FitSettings().batch_tokens
"""Maximum number of tokens that are computed at a time during prediction, by default."""

Score = Callable[[np.ndarray], dict[str, float]]
"""Computes metrics by name from the logits of the validation split, `[N, O]`. The first one is maximised."""


@dataclass(frozen=True)
class FitResult:
    """The outcome of a fit.

    Attributes:
        epochs: Number of epochs, of which the last may be incomplete.
        updates: Number of updates.
        best_update: The update after which the weights had their best score; these weights are kept.
        valid: Metrics of the kept weights on the validation split.
        seconds: Duration.
    """

    epochs: int
    updates: int
    best_update: int
    valid: dict[str, float]
    seconds: float

    @property
    def score(self) -> float:
        """The metric that is maximised."""
        return next(iter(self.valid.values()))


def fit(
    predictor: Predictor,
    train: PredictorInputs,
    train_labels: np.ndarray,
    valid: PredictorInputs,
    valid_labels: np.ndarray,
    settings: FitSettings,
    seed: int,
    frozen: bool = False,
) -> FitResult:
    """Fit a predictor to a binary outcome and keep the weights with the highest validation AUROC.

    Args:
        predictor: A predictor with one output; changed in place.
        train: The training histories, or their `FrozenVectors` if the encoder is frozen.
        train_labels: 0 or 1 for each training history.
        valid: The validation histories, of the same type.
        valid_labels: 0 or 1 for each validation history.
        settings: Settings of the fit.
        seed: Seed of the order and of dropout.
        frozen: Whether only the head is fitted.

    Raises:
        UserError: A split has no cases or no controls (key `one-class-only`), or the loss diverges
            (`loss-not-finite`).
    """
    for name, labels in (("training", train_labels), ("validation", valid_labels)):
        if len(np.unique(labels)) < 2:
            raise UserError(
                "one-class-only",
                f"all {len(labels)} {name} labels are equal. Use a cohort with both cases and controls.",
            )
    return fit_to(
        predictor, train, binary_loss(train_labels), valid, binary_score(valid_labels), settings, seed, frozen
    )


def fit_to(
    predictor: Predictor,
    train: PredictorInputs,
    loss: Loss,
    valid: PredictorInputs,
    score: Score,
    settings: FitSettings,
    seed: int,
    frozen: bool = False,
) -> FitResult:
    """Fit a predictor to any task and keep the weights with the best score.

    Args:
        predictor: The predictor; changed in place.
        train: The training histories, or their `FrozenVectors` if the encoder is frozen.
        loss: Loss of each training history.
        valid: The validation histories, of the same type.
        score: Computes metrics of the validation split.
        settings: Settings of the fit.
        seed: Seed of the order and of dropout.
        frozen: Whether only the head is fitted.

    Raises:
        UserError: The loss diverges (key `loss-not-finite`).
    """
    started = time.perf_counter()
    runtime = Runtime(settings.precision)
    predictor.to(runtime.device)
    if settings.head_first and not frozen and isinstance(predictor.encoder, BertEncoder):
        head_settings = replace(settings, learning_rate=settings.head_learning_rate)
        fit_to(predictor, train, loss, valid, score, head_settings, seed, frozen=True)
    for level in predictor.encoder.levels:
        level.requires_grad_(not frozen)
    if frozen:
        train, valid = (_frozen(predictor, inputs, settings) for inputs in (train, valid))
    model = runtime.accelerator.prepare_model(predictor)
    epochs = epochs_of(settings, len(train))
    per_epoch = -(-len(train) // settings.batch_examples)
    update = OptimizerStep(
        parameter_groups(predictor.encoder, predictor.head, settings, frozen),
        len(epochs) * per_epoch,
        settings,
        runtime,
    )
    rng = np.random.default_rng(seed)

    def losses() -> Iterator[float]:
        for _ in epochs:
            for rows in shuffled_rows(train.lengths, settings.batch_examples, rng):
                _train_mode(predictor, frozen)
                yield update(model, train, rows, loss)

    def evaluate() -> dict[str, float]:
        return score(predict_logits(predictor, valid, settings.batch_tokens, runtime))

    done, best = fit_with_early_stopping(
        predictor, losses(), len(epochs) * per_epoch, evaluate, settings, seed
    )
    seconds = time.perf_counter() - started
    return FitResult(-(-done // per_epoch), done, best.update, best.metrics, seconds)


def fit_with_early_stopping(
    model: nn.Module,
    losses: Iterator[float],
    total: int,
    evaluate: Callable[[], dict[str, float]],
    settings: FitSettings,
    seed: int,
) -> tuple[int, "BestWeights"]:
    """Make updates with early stopping, and restore the best weights.

    Args:
        model: The model; changed in place.
        losses: Makes one update each time the next loss is requested.
        total: Number of updates that `losses` can make.
        evaluate: Computes metrics of the validation split by name. The first one is maximised.
        settings: Provides the evaluation interval and the patience.
        seed: Seed of dropout.

    Returns:
        The number of updates and the best evaluation.

    Raises:
        UserError: The loss diverges (key `loss-not-finite`).
    """
    best, done = BestWeights(model, settings.patience), 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        best.consider(0, evaluate())
        for done, value in enumerate(losses, 1):
            if not np.isfinite(value):
                raise UserError(
                    "loss-not-finite",
                    f"the loss became {value} at update {done}. Choose a learning rate below "
                    f"{settings.learning_rate}.",
                )
            if done % settings.evaluate_updates == 0 or done == total:
                best.consider(done, evaluate())
            if best.patience_exhausted:
                break
    best.restore()
    model.eval()
    return done, best


def predict_logits(
    predictor: Predictor,
    inputs: PredictorInputs,
    batch_tokens: int = EVALUATION_TOKENS,
    runtime: Runtime | None = None,
) -> np.ndarray:
    """Return the logits of histories: float32 `[N, O]`.

    Args:
        predictor: The predictor. Its dropout is turned off.
        inputs: `N` histories, or their `FrozenVectors`.
        batch_tokens: Maximum number of tokens that are computed at a time.
        runtime: Devices and precision; `Runtime()` by default.
    """
    runtime = runtime or Runtime()
    predictor.to(runtime.device).eval()
    logits = torch.zeros(len(inputs), predictor.head.outputs, device=runtime.device)
    batches = rows_by_length(inputs.lengths, batch_tokens)
    with torch.inference_mode(), runtime.autocast():
        for number in runtime.share(np.arange(len(batches))):
            batch = batch_of(inputs, batches[number]).to(runtime.device)
            logits[batch.rows.to(runtime.device)] = predictor(batch)
    return runtime.accelerator.reduce(logits, "sum").cpu().numpy()


def binary_loss(labels: np.ndarray) -> Loss:
    """Return the cross-entropy of the first output: labels 0 or 1, `[N]`."""
    targets = torch.as_tensor(labels, dtype=torch.float32)

    def loss(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(
            logits[:, 0], targets[rows].to(logits.device), reduction="none"
        )

    return loss


def binary_score(labels: np.ndarray) -> Score:
    """Return the AUROC and the cross-entropy of the first output: labels 0 or 1, `[N]`."""
    targets = np.asarray(labels, float)

    def score(logits: np.ndarray) -> dict[str, float]:
        scores = logits[:, 0].astype(float)
        losses = np.logaddexp(0, scores) - targets * scores
        return {"auroc": auroc_of(targets, scores), "loss": float(losses.mean())}

    return score


class BestWeights:
    """The best weights so far, by the first metric of the validation split.

    Args:
        model: The model whose weights are kept.
        patience: Number of evaluations without an improvement that are allowed.

    Attributes:
        update: The update after which the model had these weights.
        metrics: Metrics of these weights on the validation split.
    """

    def __init__(self, model: nn.Module, patience: int) -> None:
        self._model, self._patience = model, patience
        self._since_best = 0
        self._weights: dict[str, torch.Tensor] = {}
        self.update = 0
        self.metrics: dict[str, float] = {}

    @property
    def patience_exhausted(self) -> bool:
        """Whether the last `patience` evaluations were not better than the best one."""
        return self._since_best >= self._patience

    def consider(self, update: int, metrics: dict[str, float]) -> None:
        """Keep the current weights if their first metric is better than that of the best weights."""
        if self.metrics and not next(iter(metrics.values())) > next(iter(self.metrics.values())):
            self._since_best += 1
            return
        self._since_best, self.update, self.metrics = 0, update, metrics
        self._weights = {
            name: weight.detach().clone()
            for name, weight in self._model.named_parameters()
            if weight.requires_grad
        }

    def restore(self) -> None:
        """Set the weights of the model to the best weights."""
        self._model.load_state_dict(self._weights, strict=False)


def _train_mode(predictor: Predictor, frozen: bool) -> None:
    """Turn dropout on, except in a frozen encoder, whose output must not vary."""
    predictor.train()
    if frozen:
        predictor.encoder.eval()


def _frozen(predictor: Predictor, inputs: PredictorInputs, settings: FitSettings) -> PredictorInputs:
    """Return the frozen vectors of histories; existing frozen vectors are returned unchanged."""
    if not isinstance(inputs, Encoded):
        return inputs
    return frozen_vectors(predictor.encoder, predictor.head, inputs, settings.batch_tokens)
