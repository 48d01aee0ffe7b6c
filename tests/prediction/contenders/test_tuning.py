import tomllib
from pathlib import Path

import pytest

from ehr_bert.prediction.contenders.search import candidates
from ehr_bert.prediction.contenders.tuning import Tuning, without_ineffective
from ehr_bert.prediction.optimization import FitSettings, SearchFitSettings
from tests.user_errors import raises_user_error

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("frozen", True, "frozen_HEAD"),
        ("learning_rate", 0.5, "learning_rates"),
        ("head_learning_rate", 1e-3, "head_learning_rates"),
    ],
)
def test_settings_without_effect_are_refused(key, value, instead):
    with raises_user_error("setting-without-effect", f"fit.{key}", instead):
        Tuning.from_dict({"fit": {key: value}})


def test_a_rate_for_the_head_alone_needs_head_first():
    with raises_user_error("setting-without-effect", "head_first"):
        FitSettings(head_first=False, head_learning_rate=0.1)


def test_an_error_mentions_the_file(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("[fit]\nfrozen = true\n")
    with raises_user_error("setting-without-effect", path):
        Tuning.read(path)


def test_the_documentation_shows_the_defaults():
    text = (ROOT / "docs/prediction.md").read_text(encoding="utf-8")
    block = text[text.index("    learning_rates = ") : text.index("Settings without effect")]
    values = tomllib.loads("\n".join(line[4:] for line in block.splitlines()))
    assert Tuning.from_dict(values) == Tuning()
    assert values["fit"].keys() == Tuning().to_dict()["fit"].keys()


def test_the_settings_of_the_example_data_are_valid():
    assert Tuning.read(ROOT / "example_data/finetune.toml").learning_rates == (3e-4,)


def test_a_list_of_candidates_must_not_be_empty():
    with raises_user_error("empty-setting", "scratch_learning_rates"):
        Tuning.from_dict({"scratch_learning_rates": []})


def test_every_setting_is_used_by_each_candidate():
    settings = SearchFitSettings(layer_decay=0.5, epochs=3, warmup=0.2, weight_decay=0.3, precision="float32")
    first, second = candidates(settings, (0.1, 0.2))
    assert (first.learning_rate, second.learning_rate) == (0.1, 0.2)
    assert first.to_dict().items() >= (settings.to_dict() | {"head_first": False}).items()


def test_the_record_of_an_earlier_version_is_compared_without_settings_that_had_no_effect():
    fit = SearchFitSettings().to_dict()
    recorded = {"calibration": "platt", "fit": fit | {"frozen": False, "learning_rate": 3e-4}}
    assert without_ineffective(recorded) == {"calibration": "platt", "fit": fit}
