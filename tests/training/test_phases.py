import dataclasses
from types import SimpleNamespace

import pytest

from ehr_bert.examples.layout import Layout
from ehr_bert.training.phases import MANY_EPOCHS, PhasePlan, log_phases
from ehr_bert.training.recipe import Phase
from tests.training.test_inputs import INFO
from tests.user_errors import warning_keys

PHASE = Phase(max_seq_length=512, batch_patients=3, steps=10, warmup_steps=2)
UPDATES = SimpleNamespace(updates_per_epoch=5.0, micro_batches=1, layout=Layout(((3, 512),), 5, 3))


@pytest.mark.parametrize(
    ("phase", "info", "keys"),
    [
        ({}, {}, []),
        ({"steps": 5 * MANY_EPOCHS}, {}, []),
        ({"steps": 5 * MANY_EPOCHS + 1}, {}, ["many-epochs"]),
        ({"warmup_steps": 10}, {}, ["warmup-fills-phase"]),
        ({}, {"longest": 100, "max_seq_length": 128}, ["shorter-examples"]),
        ({}, {"longest": 100, "max_seq_length": 128, "kind": "tutorial"}, []),
        ({"max_seq_length": 128}, {"kind": "tutorial"}, ["examples-truncated"]),
    ],
)
def test_settings_that_are_probably_a_mistake_cause_a_warning(phase, info, keys, caplog):
    changed = dataclasses.replace(PHASE, **phase)
    mixture = SimpleNamespace(corpora={"": SimpleNamespace(info=dataclasses.replace(INFO, **info))})
    log_phases(SimpleNamespace(train=(mixture,)), [PhasePlan(UPDATES, changed.steps, changed)])
    assert warning_keys(caplog) == keys
