"""Check that the Keras model and the exported model compute the same."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import torch
from transformers import BertForPreTraining

from ehr_bert.errors import UserError
from ehr_bert.examples.layout import Layout
from ehr_bert.export.rare_codes import KeptTokens
from ehr_bert.model.pretraining import BatchTensors, PretrainingModel

PARITY_TOLERANCE = 1e-4
"""Largest difference between two logits that are considered equal, in float32."""

SLOTS = {"masked_lm_logits": "masked", "stay_logits": "patient"}
"""Outputs of the model, and the slots whose weights mark those that are used."""


@dataclass(frozen=True)
class Parity:
    """Largest differences between the logits of both models.

    Attributes:
        patients: Number of patients compared.
        masked_codes: Number of masked positions compared.
        masked_lm_logits: Largest difference between logits of masked codes.
        stay_logits: Largest difference between logits of prolonged stays.
    """

    patients: int
    masked_codes: int
    masked_lm_logits: float
    stay_logits: float

    def __str__(self) -> str:
        return (
            f"TensorFlow and PyTorch agree on {self.patients:,} patients with {self.masked_codes:,} masked "
            f"codes: largest difference {self.masked_lm_logits:.1e} for masked codes, {self.stay_logits:.1e} "
            "for prolonged stays"
        )


def check_parity(
    model: PretrainingModel,
    exported: BertForPreTraining,
    batches: Iterable[tuple[BatchTensors, Layout]],
    kept: KeptTokens,
) -> Parity:
    """Compare the logits of both models on the CPU in float32.

    The Keras model reads patients packed into windows, the PyTorch model reads one patient per row. Only
    logits of kept codes are compared. Both models read an omitted code as its replacement.

    Args:
        model: The Keras model.
        exported: The PyTorch model, with dropout off.
        batches: Batches of the Keras model, with `masked_weights` and `patient_weights`.
        kept: The tokens of the PyTorch model.

    Raises:
        UserError: There are no examples (key `no-examples`), or a difference exceeds `PARITY_TOLERANCE`
            (`export-not-equal`).
    """
    patients = masked_codes = 0
    differences: dict[str, list[float]] = {"masked_lm_logits": [], "stay_logits": []}
    for batch, layout in batches:
        arrays = {name: np.asarray(values) for name, values in batch.items()}
        ids = kept.ids[arrays["token_ids"]]  # [P]
        with keras.device("cpu:0"):
            outputs = model(arrays | {"token_ids": kept.rows[ids].astype(np.int32)}, layout=layout)
        expected = {name: np.asarray(values) for name, values in outputs.items()}
        expected["masked_lm_logits"] = expected["masked_lm_logits"][:, kept.rows]
        logits = exported_logits(exported, arrays | {"token_ids": ids})
        is_used = {name: arrays[f"{slot}_weights"] > 0 for name, slot in SLOTS.items()}
        masked_codes += int(is_used["masked_lm_logits"].sum())
        patients += int(is_used["stay_logits"].sum())
        for name, used in is_used.items():
            differences[name].append(_largest(expected[name][used] - logits[name]))
    if patients == 0:
        raise UserError(
            "no-examples",
            "there are no examples on which the models can be compared. Name others (--examples).",
        )
    largest = {name: float(np.max(values)) for name, values in differences.items()}
    for name, value in largest.items():
        if not value <= PARITY_TOLERANCE:
            raise UserError(
                "export-not-equal",
                f"{name} of TensorFlow and PyTorch differ by {value:.1e}, more than {PARITY_TOLERANCE:.0e}. "
                "Nothing is written.",
            )
    return Parity(patients, masked_codes, largest["masked_lm_logits"], largest["stay_logits"])


@torch.no_grad()
def exported_logits(exported: BertForPreTraining, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute the outputs of the Keras model with the exported model, one patient per row.

    Args:
        exported: The PyTorch model.
        batch: A batch of the Keras model.

    Returns:
        `masked_lm_logits`, float32 `[M, V]`, and `stay_logits`, float32 `[S, 2]`, of the masked positions and
        patient slots that are used.
    """
    real = batch["patient_ids"] > 0  # [P]
    position = batch["position_ids"]  # [P]
    patient = np.cumsum(real & (position == 0)) - 1  # [P]
    shape = patient.max(initial=-1) + 1, position.max(initial=0) + 1  # B, T

    def rows(values: np.ndarray) -> torch.Tensor:  # [B, T]
        row = torch.zeros(shape, dtype=torch.long)
        row[patient[real], position[real]] = torch.as_tensor(values[real], dtype=torch.long)
        return row

    mask, visit_ids = rows(real), rows(batch["visit_ids"])
    encoded = exported.bert(rows(batch["token_ids"]), attention_mask=mask, token_type_ids=visit_ids)
    masked = batch["masked_places"][batch["masked_weights"] > 0]
    first = batch["patient_places"][batch["patient_weights"] > 0]
    hidden = encoded.last_hidden_state[patient[masked], position[masked]]  # [M, H]
    pooled = stay_pooled(exported, encoded, visit_ids, mask)[patient[first]]  # [S, H]
    return {
        "masked_lm_logits": exported.cls.predictions(hidden).numpy(),
        "stay_logits": exported.cls.seq_relationship(pooled).numpy(),
    }


def stay_pooled(
    exported: BertForPreTraining, encoded: Any, visit_ids: torch.Tensor, real: torch.Tensor
) -> torch.Tensor:
    """Return the input of the stay head, as the config's `stay_pooling` defines it.

    Args:
        exported: The PyTorch model.
        encoded: The output of its `bert`.
        visit_ids: Token types, int64 `[B, T]`.
        real: 1 at real positions, int64 `[B, T]`.

    Returns:
        float32 `[B, H]`.
    """
    hidden, pooling = encoded.last_hidden_state, exported.config.stay_pooling
    if pooling == "cls":
        return encoded.pooler_output
    if pooling == "first":
        first = (visit_ids > 0).int().argmax(dim=1)  # [B]
        return exported.bert.pooler(hidden.gather(1, first[:, None, None].expand(-1, 1, hidden.shape[-1])))
    weights = real[:, :, None].to(hidden.dtype)  # [B, T, 1]
    summed = (hidden * weights).sum(dim=1)
    return summed / weights.sum(dim=1).clamp(min=1) if pooling == "mean" else summed


def _largest(differences: np.ndarray) -> float:
    return float(np.abs(differences).max(initial=0.0))
