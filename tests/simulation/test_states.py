import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.simulation import states
from ehr_bert.simulation.states import CORE_DISEASES, DISEASES, HAS, POSSIBLE, STATES, TARGETS, Transition

any_state = st.integers(0, STATES - 1)
any_disease = st.integers(0, len(CORE_DISEASES) - 1)


def test_a_state_is_determined_by_its_parts() -> None:
    parts = (states.RECORDED >> 1, states.IN_ORDER, states.FRAILTY, states.IS_VULNERABLE, states.IS_DAMAGED)
    assert np.array_equal(states.state_of(*(part.astype(int) for part in parts)), np.arange(STATES))


@given(any_state, any_disease)
def test_an_onset_adds_one_disease(state: int, disease: int) -> None:
    target = TARGETS[disease, state]
    assert HAS[disease, target]
    others = np.arange(len(CORE_DISEASES)) != disease
    assert np.array_equal(HAS[others, state], HAS[others, target])
    assert states.FRAILTY[state] == states.FRAILTY[target]
    assert states.IS_DAMAGED[state] == states.IS_DAMAGED[target]
    makes_vulnerable = CORE_DISEASES[disease] == "atrial_fibrillation"
    assert states.IS_VULNERABLE[target] == (states.IS_VULNERABLE[state] or makes_vulnerable)


@given(any_state)
def test_diabetes_remembers_whether_it_followed_hypertension(state: int) -> None:
    target = TARGETS[CORE_DISEASES.index("diabetes"), state]
    assert states.IN_ORDER[target] == (states.IN_ORDER[state] or states.HYPERTENSION[state])


@given(any_state, st.sampled_from([kind for kind in Transition if kind > Transition.DEATH]))
def test_other_events_leave_the_record_as_it_is(state: int, kind: Transition) -> None:
    assert states.RECORDED[TARGETS[kind, state]] == states.RECORDED[state]


@given(any_state)
def test_hidden_events_happen_only_where_they_change_the_state(state: int) -> None:
    for kind in (Transition.FRAILTY, Transition.RECOVERY, Transition.DAMAGE):
        assert POSSIBLE[kind, state] == (TARGETS[kind, state] != state)


def test_events_are_numbered_after_the_diseases() -> None:
    assert min(Transition) == len(DISEASES)
    assert sorted(Transition) == list(range(len(DISEASES), states.TRANSITIONS))
