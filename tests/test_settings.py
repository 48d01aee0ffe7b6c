from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest

from ehr_bert.settings import Count, Settings, Share, ValueRule, differences, dotted
from tests.user_errors import raises_user_error


@dataclass(frozen=True)
class Phase(Settings):
    steps: Count
    share: Share = 1.0


@dataclass(frozen=True)
class Training(Settings):
    name: str
    shuffle: bool = True
    seed: int = 0
    limit: float | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    folders: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    width: Annotated[int, ValueRule(lambda number: number % 2 == 0, "even")] = 2
    phases: tuple[Phase, ...] = ()


def test_values_are_converted_to_the_types_of_the_hints():
    training = Training.from_dict(
        {"name": "a", "limit": 3, "folders": ["x"], "weights": {"b": 1}, "phases": [{"steps": 5}]}
    )
    assert training == Training(
        "a", limit=3.0, folders=("x",), weights={"b": 1.0}, phases=(Phase(5, share=1.0),)
    )
    assert isinstance(training.limit, float)


def test_settings_survive_a_round_trip_and_none_is_omitted():
    training = Training("a", phases=(Phase(1), Phase(2, 0.5)))
    assert "limit" not in training.to_dict()
    assert Training.from_dict(training.to_dict()) == training


@pytest.mark.parametrize(
    ("values", "mentioned"),
    [
        ({"name": 1}, ["name must be a text", "1"]),
        ({"shuffle": 1}, ["shuffle must be true or false"]),
        ({"seed": True}, ["seed must be a whole number", "true"]),
        ({"seed": 2**63}, ["seed must be a whole number"]),
        ({"limit": float("nan")}, ["limit must be a number"]),
        ({"precision": "float16"}, ["precision must be one of", "bfloat16"]),
        ({"folders": "x"}, ["folders must be a list"]),
        ({"folders": ["x", 1]}, ["folders.2 must be a text"]),
        ({"weights": {"b": "c"}}, ["weights.b must be a number"]),
        ({"width": 3}, ["width must be a whole number, even"]),
        ({"phases": [{"steps": 0}]}, ["phases.1.steps must be a whole number, 1 or more", "0"]),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(values, mentioned):
    with raises_user_error("invalid-setting", *mentioned) as caught:
        Training.from_dict({"name": "a", **values})
    assert caught.value.message.startswith(mentioned[0])


def test_an_unknown_setting_is_refused_and_a_similar_one_is_suggested():
    with raises_user_error("unknown-setting", "'sede'", "Did you mean seed?"):
        Training.from_dict({"name": "a", "sede": 1})
    with raises_user_error("unknown-setting", "'phases.1.step'", "Did you mean phases.1.steps?"):
        Training.from_dict({"name": "a", "phases": [{"step": 1}]})
    with raises_user_error("unknown-setting", "'qqq'", "name, shuffle"):
        Training.from_dict({"qqq": 1})


def test_differences_are_listed_by_dotted_key():
    one = {"seed": 1, "model": {"layers": 2}, "phases": [{"steps": 5}]}
    other = {"seed": 1, "model": {"layers": 3}, "phases": [{"steps": 5}, {"steps": 6}]}
    assert dotted(other) == {"seed": 1, "model.layers": 3, "phases.1.steps": 5, "phases.2.steps": 6}
    assert differences(one, other) == {"model.layers": (2, 3), "phases.2.steps": (None, 6)}
