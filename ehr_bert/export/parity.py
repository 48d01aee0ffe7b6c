"""Whether the Keras model and the exported one compute the same."""

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
"""The largest difference of two logits that counts as equal, in float32."""

SLOTS = {"masked_lm_logits": "masked", "stay_logits": "patient"}
"""What the model puts out, and whose weights tell which of its places are used."""


@dataclass(frozen=True)
class Parity:
    """The largest differences between both models' logits.

    Attributes:
        patients: Examples compared.
        masked_codes: Masked positions compared.
        masked_lm_logits: Largest difference of a masked code's logits.
        stay_logits: Largest difference of the prolonged stay's logits.
    """

    patients: int
    masked_codes: int
    masked_lm_logits: float
    stay_logits: float

    def __str__(self) -> str:
        return (
            f"TensorFlow and PyTorch agree on {self.patients:,} patients with {self.masked_codes:,} masked "
            f"codes: largest difference {self.masked_lm_logits:.1e} of a code's logit, "
            f"{self.stay_logits:.1e} of a stay's"
        )


def check_parity(
    model: PretrainingModel,
    exported: BertForPreTraining,
    batches: Iterable[tuple[BatchTensors, Layout]],
    kept: KeptTokens,
) -> Parity:
    """Compares the logits of both models, on the CPU and in float32.

    The Keras model sees patients as they are packed into windows, the PyTorch one each alone. Of codes, those
    that are kept are compared; the others are read by both models as what stands for them.

    Args:
        model: The Keras model.
        exported: The PyTorch model, its dropout off.
        batches: Batches as the Keras model takes them, with `masked_weights` and `patient_weights`.
        kept: The tokens of the PyTorch model.

    Raises:
        UserError: there are no examples, or a difference is over `PARITY_TOLERANCE`.
    """
    patients = masked_codes = 0
    differences: dict[str, list[float]] = {"masked_lm_logits": [], "stay_logits": []}
    for batch, layout in batches:
        arrays = {name: np.asarray(values) for name, values in batch.items()}
        ids = kept.ids[arrays["token_ids"]]  # [N]
        with keras.device("cpu:0"):
            outputs = model(arrays | {"token_ids": kept.rows[ids].astype(np.int32)}, layout=layout)
        expected = {name: np.asarray(logits) for name, logits in outputs.items()}
        expected["masked_lm_logits"] = expected["masked_lm_logits"][:, kept.rows]
        found = exported_logits(exported, arrays | {"token_ids": ids})
        places = {name: arrays[f"{slot}_weights"] > 0 for name, slot in SLOTS.items()}
        masked_codes += int(places["masked_lm_logits"].sum())
        patients += int(places["stay_logits"].sum())
        for name, used in places.items():
            differences[name].append(_largest(expected[name][used] - found[name]))
    if patients == 0:
        raise UserError("there are no examples to compare the models on")
    largest = {name: float(np.max(values)) for name, values in differences.items()}
    for name, value in largest.items():
        if not value <= PARITY_TOLERANCE:
            raise UserError(
                f"{name} of TensorFlow and PyTorch differ by {value:.1e}, more than {PARITY_TOLERANCE:.0e}: "
                "nothing is written"
            )
    return Parity(patients, masked_codes, largest["masked_lm_logits"], largest["stay_logits"])


@torch.no_grad()
def exported_logits(exported: BertForPreTraining, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the Keras model computes, by the exported one, a patient a row.

    Args:
        exported: The PyTorch model.
        batch: A batch of the Keras model.

    Returns:
        `masked_lm_logits` and `stay_logits` of the used places in turn, [used, V] and [used, 2].
    """
    real = batch["patient_ids"] > 0  # [N]
    position = batch["position_ids"]  # [N]
    patient = np.cumsum(real & (position == 0)) - 1  # [N]
    shape = patient.max(initial=-1) + 1, position.max(initial=0) + 1  # B, T

    def rows(values: np.ndarray) -> torch.Tensor:  # [B, T]
        row = torch.zeros(shape, dtype=torch.long)
        row[patient[real], position[real]] = torch.as_tensor(values[real], dtype=torch.long)
        return row

    mask, visit_ids = rows(real), rows(batch["visit_ids"])
    encoded = exported.bert(rows(batch["token_ids"]), attention_mask=mask, token_type_ids=visit_ids)
    masked = batch["masked_places"][batch["masked_weights"] > 0]
    first = batch["patient_places"][batch["patient_weights"] > 0]
    hidden = encoded.last_hidden_state[patient[masked], position[masked]]  # [used, H]
    pooled = stay_pooled(exported, encoded, visit_ids, mask)[patient[first]]  # [used, H]
    return {
        "masked_lm_logits": exported.cls.predictions(hidden).numpy(),
        "stay_logits": exported.cls.seq_relationship(pooled).numpy(),
    }


def stay_pooled(
    exported: BertForPreTraining, encoded: Any, visit_ids: torch.Tensor, real: torch.Tensor
) -> torch.Tensor:
    """What the stay head reads: stock BERT's own for `cls`, else as the config's `stay_pooling`.

    Args:
        exported: The PyTorch model.
        encoded: What its `bert` put out.
        visit_ids: Token types, [B, T].
        real: 1 at real positions, [B, T].

    Returns:
        [B, H].
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
