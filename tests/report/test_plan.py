import dataclasses

from ehr_bert.examples.layout import Layout
from ehr_bert.model.config import ModelConfig
from ehr_bert.report.plan import plan_table
from ehr_bert.training.plan import Memory, PhaseWork, Plan

MEMORY = Memory(weights=4 * 10**9, gradients=2 * 10**9, moments=8 * 10**9, activations=1_230_000_000)
FIRST = PhaseWork(
    updates=7_038,
    micro_batches=4,
    layout=Layout(((2, 64), (3, 128)), 5, 5),
    examples=461_242_368.0,
    positions=59_039_023_104,
    real_tokens=5e10,
    masked_codes=7.5e9,
    flops=3.21e19,
    memory=MEMORY,
)
SECOND = dataclasses.replace(
    FIRST, updates=3, layout=Layout(((1, 512),), 5, 5), memory=dataclasses.replace(MEMORY, activations=1)
)
PLAN = Plan(ModelConfig(), devices=8, precision="bfloat16", of_patients=False, phases=(FIRST, SECOND))


def rows(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    return {title: figures for title, *figures in cells}


def test_sums_stand_beside_the_phases_with_thousands_parted():
    found = rows(plan_table(PLAN))
    assert found[""] == ["phase 1", "phase 2", "in all"]
    assert found["updates"] == ["7,038", "3", "7,041"]
    assert found["longest window"] == ["128", "512", ""]
    assert found["windows"][2] == "922,484,736"
    assert found["positions"][0] == "59,039,023,104"
    assert found["operations (FLOPs)"] == ["3.21e+19", "3.21e+19", "6.42e+19"]
    assert "time" not in found


def test_memory_in_all_is_that_of_the_phase_that_needs_most():
    found = rows(plan_table(PLAN))
    assert found["memory a device, GB, at least"] == ["15.23", "14.00", "15.23"]
    assert found["· activations"] == ["1.23", "0.00", "1.23"]


def test_time_is_told_in_what_a_person_reckons_with():
    for seconds, told in ((41, "0 min 41 s"), (3725, "1 h 2 min"), (100_000, "1 d 3 h")):
        assert rows(plan_table(PLAN, lambda _, seconds=seconds: seconds))["time"][0] == told


def test_the_head_says_what_is_known_of_the_model_and_where_it_is_computed():
    sized = dataclasses.replace(PLAN, config=ModelConfig(vocab_size=100), devices=1, of_patients=True)
    assert plan_table(sized).startswith("1,")
    assert "a vocabulary of 100; bfloat16 on 1 device\n" in plan_table(sized)
    assert "patients" in rows(plan_table(sized))
    assert "without a vocabulary, whose size is not known; bfloat16 on 8 devices\n" in plan_table(PLAN)
