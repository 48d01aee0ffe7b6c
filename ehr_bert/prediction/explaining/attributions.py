"""Contributions of the codes to a prediction, by integrated gradients (Sundararajan et al. 2017).

Gradients are integrated from a blank history to the history of the patient. In the blank history each code
is replaced by padding, while `[CLS]`, the number of codes, their positions and their visits stay the same.
Contributions therefore belong to the codes, not to the length of the history, and sum to the difference of
both logits.
"""

from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import LayerIntegratedGradients

from ehr_bert.prediction.batches import PaddedBatch, collate
from ehr_bert.prediction.predictor import Predictor
from ehr_bert.prediction.reading import Encoded

INTEGRATION_STEPS = (32, 64, 128, 256, 512)
"""Numbers of integration points to try, until the error is within `COMPLETENESS_TOLERANCE`."""

COMPLETENESS_TOLERANCE = 0.01
"""Maximum difference between the sum of the contributions and the difference of the logits."""

_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Attribution:
    """Contributions of the `T` tokens of a history to a logit.

    Attributes:
        contributions: Contribution of each token, 0 for `[CLS]`: float64 `[T]`.
        logit: Logit of the history.
        blank_logit: Logit of the blank history.
        steps: Number of integration points.
    """

    contributions: np.ndarray
    logit: float
    blank_logit: float
    steps: int

    @property
    def error(self) -> float:
        """Sum of the contributions minus the difference of the logits, which it should be equal to."""
        return float(self.contributions.sum()) - (self.logit - self.blank_logit)

    @property
    def is_complete(self) -> bool:
        """Whether the contributions sum to the difference of the logits."""
        return abs(self.error) <= COMPLETENESS_TOLERANCE


def attribute(predictor: Predictor, encoded: Encoded, output: int = 0) -> Attribution:
    """Return the contributions of the tokens of one history.

    Args:
        predictor: Predictor with any encoder and head.
        encoded: One history of at least one token.
        output: Output of the predictor to explain.
    """
    predictor.eval()
    batch = collate(encoded, np.zeros(1, np.int64)).to(predictor.device)
    is_code = torch.from_numpy(encoded.code_places >= 0).to(predictor.device)  # [T]
    blank = torch.where(is_code, encoded.vocabulary.pad_id, batch.token_ids)  # [1, T]

    def logit(token_ids: torch.Tensor) -> torch.Tensor:  # [B, T] -> [B]
        copies = len(token_ids)
        repeated = PaddedBatch(
            token_ids=token_ids,
            visit_ids=batch.visit_ids.expand(copies, -1),
            attention_mask=batch.attention_mask.expand(copies, -1),
            rows=batch.rows.expand(copies),
            visits=batch.visits.expand(copies),
        )
        return predictor(repeated)[:, output]

    with torch.no_grad():
        blank_logit, history_logit = logit(torch.cat([blank, batch.token_ids])).tolist()
    gradients = LayerIntegratedGradients(logit, predictor.encoder.token_embedding)
    batch_size = max(1, _BATCH_TOKENS // len(encoded.token_ids))
    for steps in INTEGRATION_STEPS:
        # GRUs of cuDNN have gradients in training mode only.
        with torch.backends.cudnn.flags(enabled=False):
            by_dimension = gradients.attribute(
                batch.token_ids, baselines=blank, n_steps=steps, internal_batch_size=batch_size
            )  # [1, T, H]
        contributions = by_dimension[0].double().sum(dim=-1).cpu().numpy()
        attribution = Attribution(contributions, history_logit, blank_logit, steps)
        if attribution.is_complete:
            break
    return attribution
