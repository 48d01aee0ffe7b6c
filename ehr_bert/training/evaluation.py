"""The figures of a model on held-out examples, each beside what guessing would give."""

from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from ehr_bert.model.pretraining import PretrainingModel
from ehr_bert.training.step import Batch, build_eval_step


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model on a set of examples; losses are in nats.

    Attributes:
        global_step: Updates that the model has had.
        examples: Examples looked at.
        masked_lm_loss: Mean cross-entropy of a masked code.
        masked_lm_accuracy: Share of masked codes that the model puts first.
        code_entropy: Entropy of the examples' code frequencies: the loss of who knows only these.
        next_sentence_loss: Mean cross-entropy of the prolonged stay.
        next_sentence_accuracy: Share of examples put on the right side of one half.
        next_sentence_auroc: AUROC of the prolonged stay; NaN where all examples agree.
        prolonged_stays: Share of examples with a prolonged stay.
    """

    global_step: int
    examples: int
    masked_lm_loss: float
    masked_lm_accuracy: float
    code_entropy: float
    next_sentence_loss: float
    next_sentence_accuracy: float
    next_sentence_auroc: float
    prolonged_stays: float

    @property
    def loss(self) -> float:
        """Both losses together, as they are trained."""
        return self.masked_lm_loss + self.next_sentence_loss

    def figures(self) -> dict[str, float]:
        """All figures by name but the step."""
        return {
            "loss": self.loss,
            **{key: value for key, value in asdict(self).items() if key != "global_step"},
        }

    def published(self) -> dict[str, float]:
        """The figures of `eval_results.txt`, under the original program's keys."""
        keys = (
            "global_step",
            "loss",
            "masked_lm_accuracy",
            "masked_lm_loss",
            "next_sentence_accuracy",
            "next_sentence_auroc",
            "next_sentence_loss",
        )
        return {key: getattr(self, key) for key in keys}

    def __str__(self) -> str:
        return (
            f"after {self.global_step:,} steps, on {self.examples:,} examples:\n"
            f"  masked codes    loss {self.masked_lm_loss:.4f} (entropy of the code frequencies "
            f"{self.code_entropy:.4f}), accuracy {self.masked_lm_accuracy:.4f}\n"
            f"  prolonged stay  loss {self.next_sentence_loss:.4f}, accuracy "
            f"{self.next_sentence_accuracy:.4f}, AUROC {self.next_sentence_auroc:.4f} "
            f"({self.prolonged_stays:.1%} have one)"
        )


def evaluate(
    strategy: tf.distribute.Strategy, model: PretrainingModel, batches: tf.data.Dataset, global_step: int
) -> Evaluation:
    """Evaluates `model` on all of `batches`, a dataset of `examples.reading.evaluation_batches`."""
    eval_step = build_eval_step(strategy, model)
    sums: Counter[str] = Counter()
    labels, risks = [], []
    code_counts = np.zeros(model.encoder.embeddings.tokens.input_dim, np.int64)
    # Distributed batches can't be looked into, so the host reads the examples a second time.
    for batch, distributed in zip(batches, strategy.experimental_distribute_dataset(batches), strict=True):
        batch_sums, batch_risks = eval_step(distributed)
        sums.update({name: float(value) for name, value in batch_sums.items()})
        present = batch["example_weight"].numpy() > 0
        labels.append(batch["next_sentence_labels"].numpy()[present])
        risks.append(batch_risks.numpy()[present])
        code_counts += _code_counts(batch, len(code_counts))
    known = np.concatenate(labels)
    both_sides = 0 < known.sum() < len(known)
    masked, patients = max(sums["masked_lm_count"], 1), max(sums["stay_count"], 1)
    return Evaluation(
        global_step=global_step,
        examples=len(known),
        masked_lm_loss=sums["masked_lm_loss"] / masked,
        masked_lm_accuracy=sums["masked_lm_correct"] / masked,
        code_entropy=_entropy(code_counts),
        next_sentence_loss=sums["stay_loss"] / patients,
        next_sentence_accuracy=sums["stay_correct"] / patients,
        next_sentence_auroc=roc_auc_score(known, np.concatenate(risks)) if both_sides else float("nan"),
        prolonged_stays=float(known.mean()),
    )


def _code_counts(batch: Batch, vocab_size: int) -> np.ndarray:
    """How often each code stands in a batch, as it was before masking: [V]."""
    ids = batch["input_ids"].numpy().copy()  # [B, T]
    rows, places = np.nonzero(batch["masked_lm_weights"].numpy())
    positions = batch["masked_lm_positions"].numpy()[rows, places]
    ids[rows, positions] = batch["masked_lm_ids"].numpy()[rows, places]
    is_code = (batch["segment_ids"].numpy() > 0) & (batch["input_mask"].numpy() > 0)
    return np.bincount(ids[is_code], minlength=vocab_size)


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
