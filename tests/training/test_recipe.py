import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.model.config import ACTIVATIONS, ModelConfig
from ehr_bert.objectives.masked_codes import MaskedCodesSettings
from ehr_bert.objectives.prolonged_stay import ProlongedStaySettings
from ehr_bert.training.recipe import (
    Checkpointing,
    EarlyStopping,
    EvaluationSettings,
    Optimizer,
    Phase,
    Recipe,
)
from tests.user_errors import raises_user_error

CHECKOUT = Path(__file__).parent.parent.parent
READY = sorted((CHECKOUT / "pretrain" / "recipes").glob("*.toml"))
TABLES: dict[str, Any] = {
    "model": ModelConfig,
    "masked_codes": MaskedCodesSettings,
    "prolonged_stay": ProlongedStaySettings,
    "optimizer": Optimizer,
    "phases": Phase,
    "evaluation": EvaluationSettings,
    "checkpoints": Checkpointing,
    "early_stopping": EarlyStopping,
}

counts = st.integers(1, 10**9)
positives = st.floats(1e-12, 1e12)
shares = st.floats(0, 0.5)
texts = st.text(st.characters(exclude_categories=["Cs"]))
phases = st.builds(
    Phase,
    max_seq_length=st.none() | st.integers(1, 512),
    batch_tokens=st.none() | counts,
    epochs=st.none() | positives,
    learning_rate=positives,
    warmup_steps=st.none() | st.integers(0, 10**9),
    decay=st.sampled_from(["linear", "cosine", "constant"]),
    mixture=st.none() | st.dictionaries(texts, positives, min_size=1),
)
recipes = st.builds(
    Recipe,
    init=st.none() | texts,
    precision=st.sampled_from(["auto", "float32", "bfloat16"]),
    compile=st.sampled_from(["auto", True, False]),
    seed=st.integers(0, 2**62),
    model=st.builds(ModelConfig, vocab_size=st.none() | counts, hidden_act=st.sampled_from(ACTIVATIONS)),
    objectives=st.fixed_dictionaries(
        {},
        optional={
            "masked_codes": st.builds(
                MaskedCodesSettings, mask_share=shares, random_share=shares, weight=positives
            )
        },
    ),
    optimizer=st.builds(
        Optimizer,
        name=st.sampled_from(["adamw", "lamb"]),
        no_decay=st.lists(texts).map(tuple),
    ),
    phases=st.lists(phases, min_size=1, max_size=3).map(tuple),
    evaluation=st.builds(
        EvaluationSettings, every_steps=counts, max_batches=st.none() | counts, corpus=texts.filter(bool)
    ),
    early_stopping=st.builds(EarlyStopping, patience=st.integers(0, 9)),
)


def written(folder: Path, text: str) -> Path:
    (folder / "my.toml").write_text(text)
    return folder / "my.toml"


def test_an_empty_file_is_the_recipe_of_the_defaults(tmp_path):
    assert Recipe.read(written(tmp_path, "")) == Recipe()
    assert Recipe().model == ModelConfig()
    assert (Recipe().phases[0].batch_patients, Recipe().phases[0].steps) == (256, 10_000)


def test_a_file_states_only_what_differs(tmp_path):
    recipe = Recipe.read(
        written(
            tmp_path,
            """
            seed = 3
            compile = false
            [optimizer]
            name = "lamb"
            beta_1 = 0
            no_decay = ["bias"]
            [[phases]]
            batch_tokens = 8192
            epochs = 2
            [[phases]]
            """,
        )
    )
    assert recipe == Recipe(
        seed=3,
        compile=False,
        optimizer=Optimizer(name="lamb", beta_1=0.0, no_decay=("bias",)),
        phases=(Phase(batch_tokens=8192, epochs=2.0), Phase()),
    )
    assert (recipe.phases[0].batch_patients, recipe.phases[0].steps) == (None, None)


@given(recipe=recipes)
def test_a_written_recipe_reads_back_the_same(tmp_path_factory, recipe):
    file = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    recipe.write(file)
    assert Recipe.read(file) == recipe


@pytest.mark.parametrize("file", READY, ids=lambda file: file.stem)
def test_every_ready_recipe_is_read(file):
    assert Recipe.read(file) != Recipe()
    assert file.read_text().startswith("# ")


def test_there_are_ready_recipes_and_the_docs_name_them():
    docs = (CHECKOUT / "docs" / "recipes.md").read_text()
    assert {file.stem for file in READY} >= {"med_bert", "small", "base", "two_phase"}
    assert all(f"(../pretrain/recipes/{file.name})" in docs for file in READY)


def test_the_docs_name_every_key_in_the_section_of_its_table():
    docs = (CHECKOUT / "docs" / "recipes.md").read_text()
    sections = dict(re.findall(r"^## \[+(\w+)\]+\n(.*?)(?=^## |\Z)", docs, re.M | re.S))
    sections["top"] = docs.partition("## At the top")[2].partition("## ")[0]
    top = [field.name for field in dataclasses.fields(Recipe) if field.name not in (*TABLES, "objectives")]
    keys = {"top": top} | {name: [f.name for f in dataclasses.fields(cls)] for name, cls in TABLES.items()}
    missing = {
        (table, key) for table, names in keys.items() for key in names if f"`{key}`" not in sections[table]
    }
    assert not missing
    assert Recipe().to_dict().keys() | {"init"} == {*top, *TABLES}


@pytest.mark.parametrize("cls", [Recipe, *TABLES.values()])
def test_the_docstrings_describe_every_setting(cls):
    docs = "".join(base.__doc__ or "" for base in cls.__mro__)
    assert all(f"\n        {field.name}: " in docs for field in dataclasses.fields(cls))


@pytest.mark.parametrize(
    ("text", "key", "mentioned"),
    [
        ("sede = 3", "unknown-setting", ["'sede'", "seed?"]),
        ("objectives = {}", "unknown-setting", ["'objectives'"]),
        ("[modell]", "unknown-setting", ["'modell'", "model?"]),
        ("[visit_counts]", "unknown-setting", ["'visit_counts'", "masked_codes"]),
        ("[model]\nhiden_size = 3", "unknown-setting", ["'model.hiden_size'", "model.hidden_size?"]),
        ("[[phases]]\n[[phases]]\nstep = 3", "unknown-setting", ["'phases.2.step'", "phases.2.steps?"]),
        ("[masked_codes]\nshare = 3", "unknown-setting", ["'masked_codes.share'"]),
        ("seed = '3'", "invalid-setting", ["seed", '"3"']),
        ("seed = true", "invalid-setting", ["seed", "true"]),
        ("seed = 1.0", "invalid-setting", ["seed", "1.0"]),
        ("init = 3", "invalid-setting", ["init", 3]),
        ("compile = 1", "invalid-setting", ["compile", '"auto", true, false']),
        ("compile = 2000-01-01", "invalid-setting", ["compile", "2000-01-01"]),
        ("phases = 3", "invalid-setting", ["phases", "list"]),
        ("phases = [3]", "invalid-setting", ["phases.1", "table"]),
        ("phases = []", "no-phases", ["phases"]),
        ("[phases]", "invalid-setting", ["phases", "list"]),
        ("optimizer = 'lamb'", "invalid-setting", ["optimizer", '"lamb"']),
        ("[optimizer]\nname = 'sgd'", "invalid-setting", ["optimizer.name", '"adamw", "lamb"']),
        ("[optimizer]\nbeta_2 = 1", "invalid-setting", ["optimizer.beta_2"]),
        ("[optimizer]\nepsilon = nan", "invalid-setting", ["optimizer.epsilon", "nan"]),
        ("[optimizer]\nno_decay = 'a'", "invalid-setting", ["optimizer.no_decay"]),
        ("[optimizer]\nno_decay = [1]", "invalid-setting", ["optimizer.no_decay.1"]),
        (
            "[optimizer]\nweight_decay = 0\nno_decay = ['bias']",
            "setting-without-effect",
            ["optimizer.no_decay"],
        ),
        ("init_new_codes = 'mean'", "setting-without-effect", ["init_new_codes"]),
        ("masked_codes = 3", "invalid-setting", ["masked_codes", "table"]),
        ("[masked_codes]\nenabled = 1", "invalid-setting", ["masked_codes.enabled"]),
        ("[masked_codes]\nprobability = 1.5", "invalid-setting", ["masked_codes.probability", 1.5]),
        ("[masked_codes]\nmask_share = 0.95", "shares-above-one", ["masked_codes.mask_share", 0.95, 0.1]),
        (
            "[masked_codes]\nenabled = false\nweight = 2.0",
            "setting-without-effect",
            ["masked_codes.weight", "masked_codes.enabled"],
        ),
        (
            "[prolonged_stay]\nenabled = false\nthreshold_days = 3",
            "setting-without-effect",
            ["prolonged_stay.threshold_days"],
        ),
        (
            "[masked_codes]\nenabled = false\n[prolonged_stay]\nenabled = false",
            "no-objective",
            ["masked_codes", "prolonged_stay"],
        ),
        ("[[phases]]\nsteps = 0", "invalid-setting", ["phases.1.steps"]),
        ("[[phases]]\nsteps = 3\nepochs = 2", "exclusive-settings", ["phases.1.steps", "epochs"]),
        (
            "[[phases]]\nbatch_patients = 3\nbatch_tokens = 2",
            "exclusive-settings",
            ["phases.1.batch_patients", "batch_tokens"],
        ),
        ("[[phases]]\nmax_seq_length = 1024", "too-few-positions", ["phases.1.max_seq_length", 1024, 512]),
        ("[early_stopping]\npatience = 2", "missing-setting", ["evaluation.every_steps"]),
        ("[[phases]]\nmixture = {}", "empty-mixture", ["phases.1.mixture"]),
        ("[[phases]]\nmixture = 'A'", "invalid-setting", ["phases.1.mixture", "table"]),
        ("[[phases]]\nmixture = { A = 0 }", "invalid-setting", ["phases.1.mixture.A"]),
        ("[[phases]]\nmixture = { A = 1, B = 1 }", "missing-setting", ["evaluation.corpus", "A, B"]),
        (
            "[[phases]]\ncarry_over = 'weights'",
            "setting-without-effect",
            ["phases.1.carry_over", '"weights"'],
        ),
        ("[model]\nhidden_size = 10", "indivisible-hidden-size", ["model.hidden_size", 10, 6]),
        ("[model]\nhidden_size = '10'", "invalid-setting", ["model.hidden_size"]),
    ],
)
def test_a_wrong_setting_is_one_line_with_the_file_and_the_setting(tmp_path, text, key, mentioned):
    file = written(tmp_path, text)
    with raises_user_error(key, f"{file}: ", *mentioned):
        Recipe.read(file)


def test_a_disabled_masked_code_objective_still_has_its_masking(tmp_path):
    recipe = Recipe.read(written(tmp_path, "[masked_codes]\nenabled = false\nprobability = 0.3"))
    assert recipe.masked_codes.probability == 0.3
    assert recipe.enabled_objectives().keys() == {"prolonged_stay"}


def test_a_file_that_is_missing_or_is_not_toml_is_refused(tmp_path):
    with raises_user_error("unreadable-file", "none.toml"):
        Recipe.read(tmp_path / "none.toml")
    with raises_user_error("invalid-toml", "my.toml", "line 1"):
        Recipe.read(written(tmp_path, "a = = 3"))


@pytest.mark.parametrize("values", [{"steps": 0}, {"batch_patients": -1}, {"learning_rate": -1e-4}])
def test_a_recipe_out_of_range_is_refused_in_a_program_too(values):
    with raises_user_error("invalid-setting", *values):
        Phase(**values)


def test_warm_up_is_a_tenth_of_the_phase_unless_stated():
    assert Phase().warmup(1234) == 123
    assert Phase(warmup_steps=5).warmup(1234) == 5
    assert Phase(warmup_steps=0).warmup(1234) == 0


def test_differences_have_the_setting_and_both_values():
    one = Recipe(phases=(Phase(), Phase(batch_patients=3)))
    other = Recipe(seed=3, phases=(Phase(learning_rate=1.0), Phase(batch_tokens=5)))
    assert one.differences(other) == {
        "seed": (12345, 3),
        "phases.1.learning_rate": (1e-4, 1.0),
        "phases.2.batch_patients": (3, None),
        "phases.2.batch_tokens": (None, 5),
    }
    assert not one.differences(one)
    assert one.differences(Recipe())["phases.2.steps"] == (10_000, None)


def test_mixtures_differ_by_corpus():
    one, other = (Recipe(phases=(Phase(mixture={"A": 1, "keep": weight}), Phase())) for weight in (2, 3))
    assert one.differences(other) == {"phases.1.mixture.keep": (2.0, 3.0)}


def test_what_leaves_the_result_alone_is_no_difference():
    other = Recipe(
        compile=False,
        report_every=3,
        phases=(Phase(micro_batch_tokens=512),),
        evaluation=EvaluationSettings(every_steps=3, max_batches=2),
        checkpoints=Checkpointing(every_steps=3, every_minutes=1, keep=1),
    )
    assert not Recipe().differences(other)


def test_when_evaluations_can_end_the_training_they_make_a_difference():
    stopping = EarlyStopping(patience=2)
    one = Recipe(evaluation=EvaluationSettings(every_steps=3), early_stopping=stopping)
    other = Recipe(evaluation=EvaluationSettings(every_steps=4), early_stopping=stopping)
    assert one.differences(other) == {"evaluation.every_steps": (3, 4)}
