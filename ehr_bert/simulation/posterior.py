"""Probabilities of the hidden facts given the record of a patient, by forward filtering in continuous time.

The record determines when and why each visit took place, the onset of each disease, and the symptoms. Between
events the probabilities follow the hidden transitions and the rates of all events that did not happen; at an
event they are multiplied by its rate, and at a new visit by the probabilities of its symptoms.

Source: Rabiner, L. R. (1989). A tutorial on hidden Markov models. Proceedings of the IEEE 77, 257-286; here
with events in continuous time.
"""

import itertools

import numpy as np
from scipy.special import gammaln

from ehr_bert.simulation.initial import InitialStates
from ehr_bert.simulation.mechanism import Mechanism
from ehr_bert.simulation.states import (
    CORE_DISEASES,
    FRAILTIES,
    HIDDEN_STATES,
    LEAF_DISEASES,
    TARGETS,
    TRANSITIONS,
    Transition,
)
from ehr_bert.simulation.trajectories import (
    DAY,
    HIDDEN_KINDS,
    INTAKE,
    Entries,
    Trajectories,
    start_of_year,
    year_of,
)

_TOLERANCE = 1e-12
"""Probability of numbers of jumps that are left out."""

_HIDDEN_SHAPE = (FRAILTIES, 2, 2, -1)
"""Frailty, vulnerability, damage and patients."""


class PosteriorFilter:
    """The probabilities of the hidden states of some patients, at a time that moves forward.

    Args:
        mechanism: The mechanism.
        initial: Distribution of the states at entry.
        entries: All patients.
        trajectories: Their recorded events.
        symptoms: Whether the visit that an event opens records each symptom: bool `[G, symptoms]`.
        patients: The patients to follow, in ascending order: int64 `[N]`.

    Attributes:
        probabilities: Probabilities of the hidden states: float64 `[N, HIDDEN_STATES]`.
        recorded: Recorded part of the state, as it is known at that time: int64 `[N]`.
        leaves: Leaf flags at that time: int64 `[N]`.
    """

    def __init__(
        self,
        mechanism: Mechanism,
        initial: InitialStates,
        entries: Entries,
        trajectories: Trajectories,
        symptoms: np.ndarray,
        patients: np.ndarray,
    ) -> None:
        self._mechanism = mechanism
        self._multiplier = mechanism.multiplier.reshape(TRANSITIONS, -1, HIDDEN_STATES).transpose(1, 0, 2)
        self._sex, self._birth_year = entries.sex[patients], entries.birth_year[patients]
        self._events, self._log_symptoms = trajectories, _log_likelihood(mechanism, symptoms)
        self._next = np.searchsorted(trajectories.patient, patients)
        self._stop = np.searchsorted(trajectories.patient, patients, side="right")
        self._time = trajectories.time[self._next]
        self._stay_end = np.zeros(len(patients), np.int64)
        age = year_of(entries.entry[patients] * DAY) - self._birth_year
        self.leaves = entries.leaves[patients].copy()
        self.recorded = entries.state[patients] // HIDDEN_STATES
        self.probabilities = initial.hidden(self._sex, age, self.leaves, self.recorded)

    def advance(self, until: np.ndarray | int) -> None:
        """Move forward to a time in seconds, one for all or int64 `[N]`, using the events before it."""
        until = np.broadcast_to(until, self._time.shape)
        active = np.flatnonzero(self._time < until)
        while len(active):
            now = self._time[active]
            pointer = np.minimum(self._next[active], len(self._events.time) - 1)
            has_event = self._next[active] < self._stop[active]
            event = np.where(has_event, self._events.time[pointer], np.iinfo(np.int64).max)
            boundary = np.minimum(until[active], start_of_year(year_of(now) + 1))
            in_stay = self._stay_end[active] > now
            boundary = np.where(in_stay, np.minimum(boundary, self._stay_end[active]), boundary)
            happens = (event <= boundary) & (event < until[active])
            reached = np.where(happens, event, boundary)
            self._wait(active, reached - now, in_stay)
            self._time[active] = reached
            self._observe(active[happens], pointer[happens])
            self._next[active[happens]] += 1
            # Events at the present second are still to come.
            pointer = np.minimum(self._next[active], len(self._events.time) - 1)
            pending = (self._next[active] < self._stop[active]) & (self._events.time[pointer] < until[active])
            active = active[(self._time[active] < until[active]) | pending]

    def _wait(self, who: np.ndarray, seconds: np.ndarray, in_stay: np.ndarray) -> None:
        """Let time pass in which nothing is recorded."""
        moving = seconds > 0
        who, days, in_stay = who[moving], seconds[moving] / DAY, in_stay[moving]
        year = year_of(self._time[who])
        base = self._mechanism.base_rates(self._sex[who], year - self._birth_year[who], year).T.copy()
        for number in range(len(LEAF_DISEASES)):
            base[:, len(CORE_DISEASES) + number] *= self.leaves[who] >> number & 1 == 0
        base[:, Transition.VISIT] *= ~in_stay
        multiplier = self._multiplier[self.recorded[who]]  # [n, TRANSITIONS, HIDDEN_STATES]
        out = np.einsum("nk,nkz->zn", base, multiplier)
        top = out.max(0)
        share = 1 - out / top
        frail, recovering, damaging = (
            (base[:, kind, None] * multiplier[:, kind] / top[:, None]).T.reshape(_HIDDEN_SHAPE)
            for kind in HIDDEN_KINDS
        )
        mean = top * days
        step = self.probabilities[who].T.copy()
        total, rows = step * np.exp(-mean), np.arange(len(who))
        for count in itertools.count(1):
            before = step.reshape(_HIDDEN_SHAPE)
            step = share * step
            after = step.reshape(_HIDDEN_SHAPE)
            after[1:] += (frail * before)[:-1]
            after[:, 0] += (recovering * before)[:, 1]
            after[:, :, 1] += (damaging * before)[:, :, 0]
            weight = np.exp(count * np.log(mean) - mean - gammaln(count + 1))
            total[:, rows] += weight * step
            if count % 4 == 0:
                left = (weight > _TOLERANCE) | (count < mean)
                if not left.any():
                    break
                if left.mean() < 0.7:
                    rows, mean, step, share = rows[left], mean[left], step[:, left], share[:, left]
                    frail, recovering, damaging = frail[..., left], recovering[..., left], damaging[..., left]
        self.probabilities[who] = (total / total.sum(0)).T

    def _observe(self, who: np.ndarray, event: np.ndarray) -> None:
        """Use events, one per patient."""
        kind, events = self._events.kind[event], self._events
        is_transition = kind != INTAKE
        known = np.where(is_transition, kind, 0)
        states = self.recorded[who][:, None] * HIDDEN_STATES + np.arange(HIDDEN_STATES)
        current = self.probabilities[who]
        by_rate = current * self._mechanism.multiplier[known[:, None], states]
        moved = np.zeros_like(current)
        hidden = TARGETS[known[:, None], states] % HIDDEN_STATES
        np.add.at(moved, (np.arange(len(who))[:, None], hidden), by_rate)
        current = np.where(is_transition[:, None], moved, current)
        opens = events.opens_visit[event]
        current = np.where(opens[:, None], current * np.exp(self._log_symptoms[event]), current)
        self.probabilities[who] = current / current.sum(1, keepdims=True)
        self.recorded[who] = events.state[event] // HIDDEN_STATES
        self.leaves[who] = events.leaves[event]
        admits = opens & events.inpatient[event]
        self._stay_end[who] = np.where(admits, events.discharge[event], self._stay_end[who])


def _log_likelihood(mechanism: Mechanism, symptoms: np.ndarray) -> np.ndarray:
    """Return the logarithm of the probability of a visit's symptoms: float64 `[G, HIDDEN_STATES]`."""
    present = np.log(list(mechanism.symptoms.values()))
    absent = np.log([1 - probability for probability in mechanism.symptoms.values()])
    return symptoms @ (present - absent) + absent.sum(0)
