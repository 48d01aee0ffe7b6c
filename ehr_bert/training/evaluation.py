"""The figures of a model on held-out examples, each beside what guessing would give."""

import math
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
import tensorflow as tf
from sklearn.metrics import average_precision_score, roc_auc_score

from ehr_bert.examples.updates import UpdateBatches
from ehr_bert.files import atomic_files
from ehr_bert.model.pretraining import PretrainingModel
from ehr_bert.training.recipe import Recipe
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.training.record.metrics_log import MetricsLog
from ehr_bert.training.record.writing import writing
from ehr_bert.training.step import build_eval_step
from ehr_bert.training.streams import distributed_cells
from ehr_bert.vocabulary import Vocabulary


@dataclass(frozen=True)
class CodeFigures:
    """Figures of scores for masked codes.

    Attributes:
        loss: Mean cross-entropy of a masked code, in nats.
        accuracy: Share of masked codes that come first.
        accuracy_top_5: Share that are among the first five.
        accuracy_top_10: Share that are among the first ten.
    """

    loss: float
    accuracy: float
    accuracy_top_5: float
    accuracy_top_10: float

    @property
    def perplexity(self) -> float:
        """Of how many codes an even guess would cost as much."""
        return math.exp(min(self.loss, 700.0))


@dataclass(frozen=True)
class StayFigures:
    """Figures of risks of a prolonged stay; the last two are NaN where all patients agree.

    Attributes:
        loss: Mean cross-entropy of a patient, in nats.
        accuracy: Share of patients put on the right side of one half.
        auroc: Area under the receiver operating characteristic.
        average_precision: Area under the precision-recall curve, as a sum over its steps.
    """

    loss: float
    accuracy: float
    auroc: float
    average_precision: float


@dataclass(frozen=True)
class EvaluationResult:
    """Figures of a model on a set of examples; those of an objective that is not trained are None.

    Attributes:
        global_step: Updates that the model has had.
        patients: Patients looked at.
        loss: The objectives' losses under their weights, added, as they are trained.
        masked_codes: The model's figures for masked codes.
        code_frequencies: Those of who knows how frequent each code is, and nothing else.
        prolonged_stay: The model's figures for prolonged stays.
        prevalence: Those of who knows how many patients have one.
    """

    global_step: int
    patients: int
    loss: float
    masked_codes: CodeFigures | None
    code_frequencies: CodeFigures | None
    prolonged_stay: StayFigures | None
    prevalence: StayFigures | None

    def figures(self) -> dict[str, float]:
        """All figures by name but the step; what is None or NaN is left out."""
        found: dict[str, float] = {"loss": self.loss, "patients": self.patients}
        for name, part in (
            ("masked_lm", self.masked_codes),
            ("code_frequencies", self.code_frequencies),
            ("next_sentence", self.prolonged_stay),
            ("prevalence", self.prevalence),
        ):
            values = asdict(part) if part else {}
            if isinstance(part, CodeFigures):
                values["perplexity"] = part.perplexity
            found |= {f"{name}_{key}": value for key, value in values.items() if math.isfinite(value)}
        return found

    def published(self) -> dict[str, float]:
        """The figures of `eval_results.txt`, under the original program's keys."""
        found: dict[str, float] = {"global_step": self.global_step, "loss": self.loss}
        if self.masked_codes:
            found["masked_lm_accuracy"] = self.masked_codes.accuracy
            found["masked_lm_loss"] = self.masked_codes.loss
        if self.prolonged_stay:
            found["next_sentence_accuracy"] = self.prolonged_stay.accuracy
            found["next_sentence_auroc"] = self.prolonged_stay.auroc
            found["next_sentence_loss"] = self.prolonged_stay.loss
        return found

    def __str__(self) -> str:
        lines = [f"after {self.global_step:,} steps, on {self.patients:,} patients (and by guessing):"]
        if (codes := self.masked_codes) and (guess := self.code_frequencies):
            lines.append(
                f"  masked codes    loss {codes.loss:.4f} ({guess.loss:.4f}), accuracy {codes.accuracy:.4f} "
                f"({guess.accuracy:.4f}), among the first ten {codes.accuracy_top_10:.4f} "
                f"({guess.accuracy_top_10:.4f})"
            )
        if (stay := self.prolonged_stay) and (prior := self.prevalence):
            lines.append(
                f"  prolonged stay  loss {stay.loss:.4f} ({prior.loss:.4f}), AUROC {stay.auroc:.4f} "
                f"({prior.auroc:.4f}), average precision {stay.average_precision:.4f} "
                f"({prior.average_precision:.4f})"
            )
        return "\n".join(lines)


class Evaluator:
    """Evaluates one model on the same batches, as often as it is called."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: PretrainingModel,
        batches: UpdateBatches,
        recipe: Recipe,
        *,
        vocabulary: Vocabulary | None,
        compiled: bool,
    ):
        """Prepares.

        Args:
            strategy: Where the model was made.
            model: The model.
            batches: Those of `Examples.evaluation`.
            recipe: Says which objectives count, and how much.
            vocabulary: Tells how frequent the codes were in training. If None, or one without counts, the
                frequencies of the masked codes themselves are taken: no guess could know better.
            compiled: As in `build_eval_step`.
        """
        self._strategy = strategy
        self._batches = batches
        self._recipe = recipe
        self._step = build_eval_step(strategy, model, batches.layout, compiled)
        self._frequencies = np.zeros(model.config.vocab_size or 0, np.int64)  # [V]
        if vocabulary:
            self._frequencies[: len(vocabulary)] = vocabulary.occurrences

    def __call__(self, step: int) -> EvaluationResult:
        """The figures of the model as it is now, after `step` updates."""
        sums: Counter[str] = Counter()
        labels: list[np.ndarray] = []
        risks: list[np.ndarray] = []
        counts = np.zeros_like(self._frequencies)  # [V]
        cells = iter(distributed_cells(self._strategy, self._batches))
        for _ in range(self._batches.steps or 0):
            batch_sums, outputs = self._step(next(cells))
            sums.update({name: float(value) for name, value in batch_sums.items()})
            found = {name: value.numpy() for name, value in outputs.items()}
            present = found["stay_weights"] > 0
            labels.append(found["stay_labels"][present])
            risks.append(found["stay_risks"][present])
            counts += np.bincount(found["masked_ids"][found["masked_weights"] > 0], minlength=len(counts))
        known = np.concatenate(labels)
        codes, stay = self._recipe.masked_codes, self._recipe.prolonged_stay
        masked_codes = _code_figures(sums) if codes.enabled else None
        prolonged_stay = _stay_figures(sums, known, np.concatenate(risks)) if stay.enabled else None
        return EvaluationResult(
            global_step=step,
            patients=len(known),
            loss=(masked_codes.loss * codes.weight if masked_codes else 0.0)
            + (prolonged_stay.loss * stay.weight if prolonged_stay else 0.0),
            masked_codes=masked_codes,
            code_frequencies=code_frequencies(counts, self._frequencies) if masked_codes else None,
            prolonged_stay=prolonged_stay,
            prevalence=prevalence(known) if prolonged_stay else None,
        )


def _code_figures(sums: Counter[str]) -> CodeFigures:
    masked = max(sums["masked_lm_count"], 1)
    names = ("loss", "correct", "top_5", "top_10")
    return CodeFigures(*(sums[f"masked_lm_{name}"] / masked for name in names))


def _stay_figures(sums: Counter[str], labels: np.ndarray, risks: np.ndarray) -> StayFigures:
    patients = max(sums["stay_count"], 1)
    both_sides = 0 < labels.sum() < len(labels)
    return StayFigures(
        loss=sums["stay_loss"] / patients,
        accuracy=sums["stay_correct"] / patients,
        auroc=float(roc_auc_score(labels, risks)) if both_sides else math.nan,
        average_precision=float(average_precision_score(labels, risks)) if both_sides else math.nan,
    )


def code_frequencies(masked: np.ndarray, frequencies: np.ndarray) -> CodeFigures:
    """The figures of always guessing codes by their frequency.

    Args:
        masked: How often each code was masked, [V].
        frequencies: How often each was seen in training, [V]. One is added to each (Laplace), since a model's
            softmax gives each code a share too. If all are 0, `masked` itself is taken as it is.
    """
    known = frequencies + 1 if frequencies.any() else masked
    share = known[masked > 0] / known.sum()
    total = max(masked.sum(), 1)
    ranked = masked[np.argsort(-known, kind="stable")]  # ties by id

    def up_to(rank: int) -> float:
        return float(ranked[:rank].sum() / total)

    loss = float(-(masked[masked > 0] * np.log(share)).sum() / total)
    return CodeFigures(loss, up_to(1), up_to(5), up_to(10))


def prevalence(labels: np.ndarray) -> StayFigures:
    """The figures of giving each patient the share of prolonged stays among `labels`, [patients], as risk."""
    share = float(labels.mean()) if len(labels) else math.nan
    both_sides = 0 < share < 1
    entropy = -share * math.log(share) - (1 - share) * math.log1p(-share) if both_sides else 0.0
    return StayFigures(
        loss=entropy,
        accuracy=max(share, 1 - share),
        auroc=0.5 if both_sides else math.nan,
        average_precision=share if both_sides else math.nan,
    )


def write_eval_results(folder: TrainingFolder, found: EvaluationResult) -> None:
    """Writes `eval_results.txt`.

    Raises:
        UserError: it can't be written.
    """
    file = folder.eval_results_file
    with writing(file), atomic_files(file) as (temporary,):
        lines = [f"{key} = {value}\n" for key, value in found.published().items()]
        temporary.write_text("".join(lines), encoding="utf-8")


def record_evaluation(folder: TrainingFolder, found: EvaluationResult) -> None:
    """Adds an evaluation that was made without training to the training folder.

    Raises:
        UserError: it can't be written.
    """
    MetricsLog(folder).write(found.global_step, "eval", found.figures())
    write_eval_results(folder, found)
