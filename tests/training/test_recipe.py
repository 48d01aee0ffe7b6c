import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.errors import UserError
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
    top = [field.name for field in dataclasses.fields(Recipe) if field.name not in TABLES]
    keys = {"top": top} | {name: [f.name for f in dataclasses.fields(cls)] for name, cls in TABLES.items()}
    missing = {
        (table, key) for table, names in keys.items() for key in names if f"`{key}`" not in sections[table]
    }
    assert not missing
    assert {field.name for field in dataclasses.fields(Recipe)} == {*top, *TABLES}


@pytest.mark.parametrize("cls", [Recipe, *TABLES.values()])
def test_the_docstrings_tell_every_key(cls):
    assert all(f"\n        {field.name}: " in cls.__doc__ for field in dataclasses.fields(cls))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede = 3", "unknown key 'sede': did you mean seed?"),
        ("[modell]", "unknown key 'modell': did you mean model?"),
        ("[model]\nhiden_size = 3", "unknown key 'model.hiden_size': did you mean model.hidden_size?"),
        ("[[phases]]\n[[phases]]\nstep = 3", "unknown key 'phases.2.step': did you mean phases.2.steps?"),
        ("[early_stopping]\nx = 3", "unknown key 'early_stopping.x': known are patience"),
        ("seed = '3'", 'seed must be a whole number, 0 or more, not "3"'),
        ("seed = true", "seed must be a whole number, 0 or more, not true"),
        ("seed = 1.0", "seed must be a whole number, 0 or more, not 1.0"),
        ("init = 3", "init must be a text, not 3"),
        ("compile = 1", 'compile must be one of "auto", true, false, not 1'),
        ("compile = 2000-01-01", 'compile must be one of "auto", true, false, not 2000-01-01'),
        ("phases = 3", "phases must be a list, not 3"),
        ("phases = [3]", "phases.1 must be a table, not 3"),
        ("phases = []", "phases is empty: a training has one [[phases]] at least"),
        ("[phases]", "phases must be a list, not a table"),
        ("optimizer = 'lamb'", 'optimizer must be a table, not "lamb"'),
        ("[optimizer]\nname = 'sgd'", 'optimizer.name must be one of "adamw", "lamb", not "sgd"'),
        ("[optimizer]\nbeta_2 = 1", "optimizer.beta_2 must be a number, from 0 to below 1, not 1"),
        ("[optimizer]\nepsilon = nan", "optimizer.epsilon must be a number, above 0, not nan"),
        ("[optimizer]\nno_decay = 'a'", 'optimizer.no_decay must be a list, not "a"'),
        ("[optimizer]\nno_decay = [1]", "optimizer.no_decay.1 must be a text, not 1"),
        ("[masked_codes]\nenabled = 1", "masked_codes.enabled must be true or false, not 1"),
        (
            "[masked_codes]\nprobability = 1.5",
            "masked_codes.probability must be a number, above 0 and at most 1, not 1.5",
        ),
        (
            "[masked_codes]\nmask_share = 0.95",
            "masked_codes.mask_share 0.95 and random_share 0.1 are over 1",
        ),
        (
            "[masked_codes]\nenabled = false\n[prolonged_stay]\nenabled = false",
            "masked_codes and prolonged_stay are both not enabled: train one of them",
        ),
        ("[[phases]]\nsteps = 0", "phases.1.steps must be a whole number, 1 or more, not 0"),
        (
            "[[phases]]\nsteps = 3\nepochs = 2",
            "phases.1.steps and epochs are both stated: state one of them",
        ),
        (
            "[[phases]]\nbatch_patients = 3\nbatch_tokens = 2",
            "phases.1.batch_patients and batch_tokens are both stated: state one of them",
        ),
        (
            "[[phases]]\nmax_seq_length = 1024",
            "phases.1.max_seq_length is 1024, over model.max_position_embeddings, which is 512",
        ),
        (
            "[early_stopping]\npatience = 2",
            "early_stopping.patience counts evaluations: state evaluation.every_steps",
        ),
        ("[[phases]]\nmixture = {}", "phases.1.mixture names no corpus: name one at least, or leave it out"),
        ("[[phases]]\nmixture = 'A'", 'phases.1.mixture must be a table, not "A"'),
        ("[[phases]]\nmixture = { A = 0 }", "phases.1.mixture.A must be a number, above 0, not 0"),
        (
            "[[phases]]\nmixture = { A = 1, B = 1 }",
            "the last phase mixes A, B: state evaluation.corpus, whose held-out patients are looked at",
        ),
        (
            "[[phases]]\ncarry_over = 'weights'",
            'phases.1.carry_over is "weights", but no phase comes before the first: leave it out',
        ),
        ("[model]\nhidden_size = 10", "model.hidden_size 10 is not a multiple of num_attention_heads 6"),
        ("[model]\nhidden_size = '10'", 'model.hidden_size must be a whole number, 1 or more, not "10"'),
    ],
)
def test_what_does_not_fit_is_one_line_with_file_and_key(tmp_path, text, message):
    file = written(tmp_path, text)
    with pytest.raises(UserError) as error:
        Recipe.read(file)
    assert str(error.value) == f"{file}: {message}"


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.toml can't be read: No such file"):
        Recipe.read(tmp_path / "none.toml")
    with pytest.raises(UserError, match=r"my\.toml is no TOML: .*line 1"):
        Recipe.read(written(tmp_path, "a = = 3"))


@pytest.mark.parametrize("values", [{"steps": 0}, {"batch_patients": -1}, {"learning_rate": -1e-4}])
def test_a_recipe_out_of_range_is_refused_in_a_program_too(values):
    with pytest.raises(UserError, match="must be"):
        Phase(**values)


def test_warm_up_is_a_tenth_of_the_phase_unless_stated():
    assert Phase().warmup(1234) == 123
    assert Phase(warmup_steps=5).warmup(1234) == 5
    assert Phase(warmup_steps=0).warmup(1234) == 0


def test_differences_are_told_by_key_with_both_values():
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
