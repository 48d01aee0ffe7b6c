"""What each code adds to a prediction, by integrated gradients (Sundararajan et al. 2017).

The way leads from a blank history to the patient's. In the blank one each code is replaced by padding;
`[CLS]`, the number of codes, their places and their visits stay. So contributions are of codes, not of the
history's length, and together they are the difference of both logits.
"""

from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import LayerIntegratedGradients

from ehr_bert.prediction.batches import PaddedBatch, collate
from ehr_bert.prediction.predictor import Predictor
from ehr_bert.prediction.reading import Encoded

INTEGRATION_STEPS = (32, 64, 128, 256, 512)
"""Points of the way at which gradients are taken: as many as `COMPLETENESS_TOLERANCE` needs."""

COMPLETENESS_TOLERANCE = 0.01
"""By how much the contributions' sum may miss the difference of the logits."""

_TOKENS_AT_A_TIME = 8192


@dataclass(frozen=True)
class Attribution:
    """The contributions of a history's `T` tokens to a logit.

    Attributes:
        contributions: 0 for `[CLS]`: float64 `[T]`.
        logit: Of the history.
        blank_logit: Of the blank history.
        steps: Points at which gradients were taken.
    """

    contributions: np.ndarray
    logit: float
    blank_logit: float
    steps: int

    @property
    def error(self) -> float:
        """By how much the contributions miss the difference of the logits that they should add up to."""
        return float(self.contributions.sum()) - (self.logit - self.blank_logit)

    @property
    def complete(self) -> bool:
        """Whether the contributions add up."""
        return abs(self.error) <= COMPLETENESS_TOLERANCE


def attribute(predictor: Predictor, encoded: Encoded, output: int = 0) -> Attribution:
    """The contributions of one history's tokens.

    Args:
        predictor: Any encoder and head.
        encoded: One history of `T` tokens, one at least.
        output: Which of the predictor's logits.
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
        blank_logit, own_logit = logit(torch.cat([blank, batch.token_ids])).tolist()
    gradients = LayerIntegratedGradients(logit, predictor.encoder.token_embedding)
    at_a_time = max(1, _TOKENS_AT_A_TIME // len(encoded.token_ids))
    for steps in INTEGRATION_STEPS:
        # cuDNN's GRUs have gradients in training alone.
        with torch.backends.cudnn.flags(enabled=False):
            by_number = gradients.attribute(
                batch.token_ids, baselines=blank, n_steps=steps, internal_batch_size=at_a_time
            )  # [1, T, H]
        contributions = by_number[0].double().sum(dim=-1).cpu().numpy()
        attribution = Attribution(contributions, own_logit, blank_logit, steps)
        if attribution.complete:
            break
    return attribution
