"""Fits a predictor to labels, as long as it gets better on the validation split."""

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

Score = Callable[[np.ndarray], dict[str, float]]
"""Figures of the validation split by name, of logits `[N, outputs]`; the first is the better the higher."""


@dataclass(frozen=True)
class Fitted:
    """What a fit came to.

    Attributes:
        epochs: Passes over the training histories until its end, the last perhaps not whole.
        updates: Updates until its end.
        best_update: The update after which the weights were those that are kept.
        valid: Their figures on the validation split.
        seconds: How long it took.
    """

    epochs: int
    updates: int
    best_update: int
    valid: dict[str, float]
    seconds: float

    @property
    def score(self) -> float:
        """The figure that decides."""
        return next(iter(self.valid.values()))


def fit(
    predictor: Predictor,
    train: PredictorInputs,
    train_labels: np.ndarray,
    valid: PredictorInputs,
    valid_labels: np.ndarray,
    settings: FitSettings,
    seed: int,
) -> Fitted:
    """Fits a predictor to a binary outcome; its weights become the best that were seen, by validation AUROC.

    Args:
        predictor: Of one output; changed in place.
        train: `N` histories; or `Reduced`, if the encoder is frozen.
        train_labels: 0 or 1, `[N]`.
        valid: `M` histories, of the same kind.
        valid_labels: 0 or 1, `[M]`.
        settings: How.
        seed: Decides order and dropout.

    Raises:
        UserError: a split has no cases, or no controls; or the loss is no number any more.
    """
    for name, labels in (("training", train_labels), ("validation", valid_labels)):
        if len(np.unique(labels)) < 2:
            raise UserError(f"all {len(labels)} {name} labels are equal: there is nothing to learn from them")
    return fit_to(
        predictor, train, binary_loss(train_labels), valid, binary_score(valid_labels), settings, seed
    )


def fit_to(
    predictor: Predictor,
    train: PredictorInputs,
    loss: Loss,
    valid: PredictorInputs,
    score: Score,
    settings: FitSettings,
    seed: int,
) -> Fitted:
    """Fits a predictor to any task.

    Args:
        predictor: Changed in place: its weights become the best that were seen.
        train: Histories; or `Reduced`, if the encoder is frozen.
        loss: Of each training history.
        valid: Histories of the same kind.
        score: Figures of the validation split.
        settings: How.
        seed: Decides order and dropout.

    Raises:
        UserError: the loss is no number any more.
    """
    started = time.perf_counter()
    runtime = Runtime(settings.precision)
    predictor.to(runtime.device)
    if settings.head_first and not settings.frozen and isinstance(predictor.encoder, BertEncoder):
        alone = replace(settings, frozen=True, learning_rate=settings.head_learning_rate)
        fit_to(predictor, train, loss, valid, score, alone, seed)
    for level in predictor.encoder.levels:
        level.requires_grad_(not settings.frozen)
    if settings.frozen:
        train, valid = (_frozen(predictor, inputs, settings) for inputs in (train, valid))
    model = runtime.accelerator.prepare_model(predictor)
    epochs = epochs_of(settings, len(train))
    per_epoch = -(-len(train) // settings.batch_examples)
    update = OptimizerStep(
        parameter_groups(predictor.encoder, predictor.head, settings),
        len(epochs) * per_epoch,
        settings,
        runtime,
    )
    rng = np.random.default_rng(seed)

    def losses() -> Iterator[float]:
        for _ in epochs:
            for rows in shuffled_rows(train.lengths, settings.batch_examples, rng):
                _train_mode(predictor, settings.frozen)
                yield update(model, train, rows, loss)

    def look() -> dict[str, float]:
        return score(predict_logits(predictor, valid, settings.batch_tokens, runtime))

    done, best = learn(predictor, losses(), len(epochs) * per_epoch, look, settings, seed)
    seconds = time.perf_counter() - started
    return Fitted(-(-done // per_epoch), done, best.update, best.figures, seconds)


def learn(
    model: nn.Module,
    losses: Iterator[float],
    total: int,
    look: Callable[[], dict[str, float]],
    settings: FitSettings,
    seed: int,
) -> tuple[int, "Best"]:
    """Makes updates as long as the validation split gets better; the weights become the best that were seen.

    Args:
        model: Changed in place.
        losses: Makes an update whenever it is asked for the next loss.
        total: How many updates it makes.
        look: Figures of the validation split by name; the first is the better the higher.
        settings: Tells when is looked, and the patience.
        seed: Decides dropout.

    Returns:
        How many updates were made, and the best look.

    Raises:
        UserError: the loss is no number any more.
    """
    best, done = Best(model, settings.patience), 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        best.look(0, look())
        for done, value in enumerate(losses, 1):
            if not np.isfinite(value):
                raise UserError(
                    f"the loss became {value} at update {done}: take a lower learning_rate "
                    f"than {settings.learning_rate}"
                )
            if done % settings.evaluate_updates == 0 or done == total:
                best.look(done, look())
            if best.given_up:
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
    """The logits of histories: float32 `[N, outputs]`.

    Args:
        predictor: Its dropout is turned off.
        inputs: `N` histories, or what its frozen encoder made of them.
        batch_tokens: Tokens that are computed at a time.
        runtime: Where; by default as `Runtime()`.
    """
    runtime = runtime or Runtime()
    predictor.to(runtime.device).eval()
    found = torch.zeros(len(inputs), predictor.head.outputs, device=runtime.device)
    batches = rows_by_length(inputs.lengths, batch_tokens)
    with torch.inference_mode(), runtime.autocast():
        for place in runtime.share(np.arange(len(batches))):
            batch = batch_of(inputs, batches[place]).to(runtime.device)
            found[batch.rows.to(runtime.device)] = predictor(batch)
    return runtime.accelerator.reduce(found, "sum").cpu().numpy()


def binary_loss(labels: np.ndarray) -> Loss:
    """The cross entropy of the first output: labels 0 or 1, `[N]`."""
    targets = torch.as_tensor(labels, dtype=torch.float32)

    def loss(found: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(
            found[:, 0], targets[rows].to(found.device), reduction="none"
        )

    return loss


def binary_score(labels: np.ndarray) -> Score:
    """AUROC and cross entropy of the first output: labels 0 or 1, `[N]`."""
    targets = np.asarray(labels, float)

    def score(found: np.ndarray) -> dict[str, float]:
        scores = found[:, 0].astype(float)
        losses = np.logaddexp(0, scores) - targets * scores
        return {"auroc": auroc_of(targets, scores), "loss": float(losses.mean())}

    return score


class Best:
    """The best weights so far, by the first figure of the validation split.

    Attributes:
        update: The update after which they were so.
        figures: The validation split's, with them.
    """

    def __init__(self, model: nn.Module, patience: int) -> None:
        self._model, self._patience = model, patience
        self._since = 0
        self._weights: dict[str, torch.Tensor] = {}
        self.update = 0
        self.figures: dict[str, float] = {}

    @property
    def given_up(self) -> bool:
        """Whether there were too many looks without a better one."""
        return self._since >= self._patience

    def look(self, update: int, figures: dict[str, float]) -> None:
        """Keeps the weights if the figures are better."""
        if self.figures and not next(iter(figures.values())) > next(iter(self.figures.values())):
            self._since += 1
            return
        self._since, self.update, self.figures = 0, update, figures
        self._weights = {
            name: weight.detach().clone()
            for name, weight in self._model.named_parameters()
            if weight.requires_grad
        }

    def restore(self) -> None:
        """Gives the model its best weights."""
        self._model.load_state_dict(self._weights, strict=False)


def _train_mode(predictor: Predictor, frozen: bool) -> None:
    """Dropout on, but in a frozen encoder, which always gives the same."""
    predictor.train()
    if frozen:
        predictor.encoder.eval()


def _frozen(predictor: Predictor, inputs: PredictorInputs, settings: FitSettings) -> PredictorInputs:
    return frozen_vectors(predictor, inputs, settings.batch_tokens) if isinstance(inputs, Encoded) else inputs
