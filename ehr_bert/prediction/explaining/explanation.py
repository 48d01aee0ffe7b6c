"""One patient's prediction, taken apart."""

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
    """What the prediction for one history rests on: `C` codes in `V` visits are read of it.

    L: layers, A: attention heads.

    Attributes:
        codes: As they stand in the history: object `[C]`.
        read_as: The tokens that the model reads them as: object `[C]`.
        visits: The visit of each code, counted from 1 in the whole history: int64 `[C]`.
        contributions: What each code adds to the logit: float64 `[C]`.
        attribution: Both logits, and whether the contributions add up.
        risk: Calibrated, where the predictor is.
        blank_risk: That of the blank history.
        attention: How much of each code is taken in where the predictor's head reads: float32 `[L, A, C]`.
        from_first: Whether it reads the first token, or else all of them alike.
        visit_attention: From visit to visit, `[CLS]` as the first where there is one: float32
            `[L, A, V or V + 1, V or V + 1]`.
        admit_date: Of all visits of the history: `datetime64[D]`; NaT where it isn't known.
        los_days: int32, as `admit_date`.
        left_out: Codes of the history that aren't read.
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
        """The visits that are read, counted from 1 in the whole history: int64 `[V]`."""
        return np.unique(self.visits)

    @property
    def visit_contributions(self) -> np.ndarray:
        """What the codes of each visit add to the logit together: float64 `[V]`."""
        _, place = np.unique(self.visits, return_inverse=True)
        return np.bincount(place, weights=self.contributions)

    @property
    def by_code(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of distinct codes the first place, what all occurrences add, and how many they are: `[K]` each."""
        _, first, code, counts = np.unique(
            self.codes.astype(str), return_index=True, return_inverse=True, return_counts=True
        )
        return first, np.bincount(code, weights=self.contributions), counts


def explain(saved: SavedPredictor, histories: Histories, output: int = 0) -> Explanation:
    """Takes the prediction for one history apart.

    Args:
        saved: A fine-tuned model, loaded with `eager` attention.
        histories: One.
        output: Which of the model's logits.

    Raises:
        UserError: the history has no code that the model reads.
    """
    encoded = encode(histories, saved.vocabulary)
    is_code = encoded.code_places >= 0  # [T]
    if not is_code.any():
        raise UserError("this history has no code that the model reads: there is nothing to explain")
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
