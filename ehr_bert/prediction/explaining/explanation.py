"""Explanation of the prediction for one patient."""

from dataclasses import dataclass

import numpy as np

from ehr_bert.cohorts.cohort import Histories
from ehr_bert.errors import UserError
from ehr_bert.metrics.calibration import Calibration, Method
from ehr_bert.prediction.explaining.attention import attention_by_visit, attention_to_codes, attention_weights
from ehr_bert.prediction.explaining.attributions import Attribution, attribute
from ehr_bert.prediction.predictor import SavedPredictor
from ehr_bert.prediction.reading import encode


@dataclass(frozen=True)
class Explanation:
    """Contributions and attention for one history, of which the model reads `C` codes in `K` visits.

    Attributes:
        codes: Codes in the history: object `[C]`.
        read_as: Tokens that the model reads them as: object `[C]`.
        visits: Visit of each code, counted from 1 in the complete history: int64 `[C]`.
        contributions: Contribution of each code to the logit: float64 `[C]`.
        attribution: Both logits, and whether the contributions sum to their difference.
        risk: Risk, calibrated if the predictor is.
        blank_risk: Risk of the blank history.
        attention: Attention to each code from the tokens that the head reads: float32 `[layers, A, C]`.
        from_first: Whether the head reads the first token only, instead of the mean of all tokens.
        visit_attention: Attention between visits, after `[CLS]` if there is one: float32
            `[layers, A, K, K]` or `[layers, A, K + 1, K + 1]`.
        admit_date: Admission dates of all visits of the history: `datetime64[D]`, NaT where unknown.
        los_days: Lengths of stay of all visits, in days: int32.
        left_out: Number of codes of the history that are not read.
    """

    codes: np.ndarray
    read_as: np.ndarray
    visits: np.ndarray
    contributions: np.ndarray
    attribution: Attribution
    risk: float
    blank_risk: float
    attention: np.ndarray
    from_first: bool
    visit_attention: np.ndarray
    admit_date: np.ndarray
    los_days: np.ndarray
    left_out: int

    @property
    def visit_numbers(self) -> np.ndarray:
        """Visits that are read, counted from 1 in the complete history: int64 `[K]`."""
        return np.unique(self.visits)

    @property
    def visit_contributions(self) -> np.ndarray:
        """Sum of the contributions of each visit: float64 `[K]`."""
        _, visit_index = np.unique(self.visits, return_inverse=True)
        return np.bincount(visit_index, weights=self.contributions)

    @property
    def by_code(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First position, sum of contributions and number of occurrences of distinct codes: `[U]` each."""
        _, first, code, counts = np.unique(
            self.codes.astype(str), return_index=True, return_inverse=True, return_counts=True
        )
        return first, np.bincount(code, weights=self.contributions), counts


def explain(saved: SavedPredictor, histories: Histories, output: int = 0) -> Explanation:
    """Explain the prediction for one history.

    Args:
        saved: Fine-tuned model, loaded with `eager` attention.
        histories: One history.
        output: Output of the model to explain.

    Raises:
        UserError: The model reads no code of the history (key `nothing-to-explain`).
    """
    encoded = encode(histories, saved.vocabulary)
    is_code = encoded.code_places >= 0  # [T]
    if not is_code.any():
        raise UserError(
            "nothing-to-explain", "the model reads no code of this history. Choose another patient or row."
        )
    attribution = attribute(saved.predictor, encoded, output)
    calibration = saved.calibration or Calibration(Method.TEMPERATURE, temperature=1.0)
    risk, blank_risk = calibration.probabilities(np.array([attribution.logit, attribution.blank_logit]))
    weights = attention_weights(saved.predictor.encoder, encoded)
    from_first = saved.predictor.head.reads_first_token
    places = encoded.code_places[is_code]
    visits = histories.visit_ids[places].astype(np.int64)
    token = {index: token for token, index in saved.vocabulary.ids.items()}
    return Explanation(
        codes=histories.vocabulary[histories.codes[places]],
        read_as=np.array([token[index] for index in encoded.token_ids[is_code]], object),
        visits=visits,
        contributions=attribution.contributions[is_code],
        attribution=attribution,
        risk=float(risk),
        blank_risk=float(blank_risk),
        attention=attention_to_codes(weights, is_code, from_first),
        from_first=from_first,
        visit_attention=attention_by_visit(weights, np.append(np.zeros((~is_code).sum(), np.int64), visits)),
        admit_date=histories.admit_date,
        los_days=histories.los_days,
        left_out=len(histories.codes) - len(places),
    )
