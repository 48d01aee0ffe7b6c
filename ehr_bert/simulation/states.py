"""States of a simulated patient, and the transitions between them.

The record shows which diseases a patient has. Three facts are hidden: frailty (0, 1 or 2), vulnerability (for
some months after an acute infection or the onset of atrial fibrillation) and silent damage of the kidneys.

Three diseases change nothing else: their flags are not part of a state, which keeps states few.
"""

from enum import IntEnum

import numpy as np

CORE_DISEASES = (
    "hypertension",
    "diabetes",
    "atrial_fibrillation",
    "heart_failure",
    "chronic_kidney_disease",
    "cerebrovascular_disease",
)
"""Diseases that change the hazard of other diseases or of death. Their flags are part of a state."""

LEAF_DISEASES = ("depression", "peripheral_artery_disease", "rheumatoid_arthritis")
"""Diseases that change no other hazard. Their flags are stored apart from the state."""

DISEASES = (*CORE_DISEASES, *LEAF_DISEASES)

FRAILTIES, HIDDEN_STATES = 3, 12
"""Number of levels of frailty, and of combinations of frailty, vulnerability and damage."""

RECORDED_STATES = 2 ** (len(CORE_DISEASES) + 1)
"""Number of combinations of the flags of core diseases and of the order flag."""

STATES = RECORDED_STATES * HIDDEN_STATES
"""Number of states. A state is `recorded * HIDDEN_STATES + hidden`."""


class Transition(IntEnum):
    """Events of a patient. The first ones are the onsets of `DISEASES`, by their position."""

    DEATH = len(DISEASES)
    ACUTE = len(DISEASES) + 1
    """An acute infection, which admits the patient or is acquired in hospital."""
    FRAILTY = len(DISEASES) + 2
    RECOVERY = len(DISEASES) + 3
    """The end of vulnerability."""
    DAMAGE = len(DISEASES) + 4
    LEAVING = len(DISEASES) + 5
    """The end of enrolment."""
    VISIT = len(DISEASES) + 6
    """A visit for none of the reasons above."""


TRANSITIONS = len(DISEASES) + len(Transition)
"""Number of kinds of events."""

_STATE = np.arange(STATES)
HIDDEN = _STATE % HIDDEN_STATES
RECORDED = _STATE // HIDDEN_STATES
FRAILTY = HIDDEN // 4
IS_VULNERABLE = HIDDEN // 2 % 2 == 1
IS_DAMAGED = HIDDEN % 2 == 1
IN_ORDER = RECORDED % 2 == 1
"""Whether diabetes began after hypertension was on record. Diseases at the start of enrolment have no order.
"""

HAS = np.array([RECORDED >> (1 + number) & 1 == 1 for number in range(len(CORE_DISEASES))])
"""Whether a patient in a state has each core disease: bool `[diseases, states]`."""

HYPERTENSION, DIABETES, FIBRILLATION, HEART_FAILURE, KIDNEY_DISEASE, STROKE = HAS


def state_of(
    flags: np.ndarray,
    in_order: np.ndarray | int,
    frailty: np.ndarray,
    vulnerable: np.ndarray,
    damaged: np.ndarray,
) -> np.ndarray:
    """Return states from flags (bit `n` for core disease `n`), the order flag and the hidden facts."""
    return ((flags << 1) + in_order) * HIDDEN_STATES + frailty * 4 + vulnerable * 2 + damaged


def _targets() -> np.ndarray:
    targets = np.tile(_STATE, (TRANSITIONS, 1))
    flags = RECORDED >> 1
    vulnerable, damaged = IS_VULNERABLE.astype(int), IS_DAMAGED.astype(int)
    order = IN_ORDER.astype(int)
    for number, name in enumerate(CORE_DISEASES):
        ordered = order | HYPERTENSION if name == "diabetes" else order
        weakened = vulnerable | (name == "atrial_fibrillation")
        targets[number] = state_of(flags | 1 << number, ordered, FRAILTY, weakened, damaged)
    targets[Transition.ACUTE] = state_of(flags, order, FRAILTY, np.ones_like(_STATE), damaged)
    targets[Transition.FRAILTY] = state_of(
        flags, order, np.minimum(FRAILTY + 1, FRAILTIES - 1), vulnerable, damaged
    )
    targets[Transition.RECOVERY] = state_of(flags, order, FRAILTY, np.zeros_like(_STATE), damaged)
    targets[Transition.DAMAGE] = state_of(flags, order, FRAILTY, vulnerable, np.ones_like(_STATE))
    return targets


TARGETS = _targets()
"""State after each transition from each state: int64 `[transitions, states]`."""

POSSIBLE = np.ones((TRANSITIONS, STATES), bool)
"""Whether each transition can happen in each state, apart from the flags of leaf diseases."""
POSSIBLE[: len(CORE_DISEASES)] = ~HAS
POSSIBLE[Transition.FRAILTY] = FRAILTY < FRAILTIES - 1
POSSIBLE[Transition.RECOVERY] = IS_VULNERABLE
POSSIBLE[Transition.DAMAGE] = ~IS_DAMAGED
