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
    predictions={"masked codes": 7.5e9},
    flops=3.21e19,
    memory=MEMORY,
)
SECOND = dataclasses.replace(
    FIRST, updates=3, layout=Layout(((1, 512),), 5, 5), memory=dataclasses.replace(MEMORY, activations=1)
)
PLAN = Plan(
    ModelConfig(),
    parameters=1_234_567,
    devices=8,
    precision="bfloat16",
    of_patients=False,
    phases=(FIRST, SECOND),
)


def rows(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    return {title: values for title, *values in cells}


def test_the_table_has_phases_and_totals_with_thousands_separators():
    table = rows(plan_table(PLAN))
    assert table[""] == ["phase 1", "phase 2", "total"]
    assert table["updates"] == ["7,038", "3", "7,041"]
    assert table["longest window"] == ["128", "512", ""]
    assert table["windows"][2] == "922,484,736"
    assert table["positions"][0] == "59,039,023,104"
    assert table["operations (FLOPs)"] == ["3.21e+19", "3.21e+19", "6.42e+19"]
    assert "time" not in table


def test_total_memory_is_the_maximum_over_phases():
    table = rows(plan_table(PLAN))
    assert table["minimum memory per device, GB"] == ["15.23", "14.00", "15.23"]
    assert table["· activations"] == ["1.23", "0.00", "1.23"]


def test_time_is_shown_in_readable_units():
    for seconds, expected in ((41, "0 min 41 s"), (3725, "1 h 2 min"), (100_000, "1 d 3 h")):
        assert rows(plan_table(PLAN, lambda _, seconds=seconds: seconds))["time"][0] == expected


def test_the_first_line_describes_the_model_and_the_devices():
    sized = dataclasses.replace(PLAN, config=ModelConfig(vocab_size=100), devices=1, of_patients=True)
    assert plan_table(sized).startswith("1,")
    assert "vocabulary of 100; bfloat16 on 1 device\n" in plan_table(sized)
    assert "patients" in rows(plan_table(sized))
    assert "without the vocabulary, whose size is unknown; bfloat16 on 8 devices\n" in plan_table(PLAN)
