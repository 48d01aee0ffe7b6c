import subprocess
import sys

import pytest

from ehr_bert.cli import main
from ehr_bert.cli.pretrain import export_phases, with_flags
from ehr_bert.launching.local import tf_config
from ehr_bert.training.recipe import Checkpointing, EarlyStopping, EvaluationSettings, Phase, Recipe
from tests.user_errors import raises_user_error


def test_without_options_a_recipe_is_unchanged():
    recipe = Recipe(phases=(Phase(epochs=3), Phase(batch_tokens=5)), seed=7)
    assert with_flags(recipe, {"output": "D", "force": False}) == recipe


def test_each_option_replaces_its_setting():
    given = {
        "steps": 30,
        "batch_tokens": 4096,
        "micro_batch_tokens": 512,
        "max_seq_length": 64,
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "seed": 3,
        "precision": "float32",
        "init": "E",
        "eval_steps": 4,
        "checkpoint_steps": 5,
        "report_steps": 6,
    }
    phase = Phase(
        steps=30,
        batch_tokens=4096,
        micro_batch_tokens=512,
        max_seq_length=64,
        learning_rate=1e-3,
        warmup_steps=2,
        decay="cosine",
    )
    assert with_flags(Recipe(phases=(Phase(epochs=3, decay="cosine"),)), given) == Recipe(
        phases=(phase,),
        seed=3,
        precision="float32",
        init="E",
        evaluation=EvaluationSettings(every_steps=4),
        checkpoints=Checkpointing(every_steps=5),
        report_every=6,
    )


@pytest.mark.parametrize("given", [{"steps": 200}, {"epochs": 2.5}])
def test_another_number_of_updates_resets_the_warm_up(given):
    (phase,) = with_flags(Recipe(phases=(Phase(steps=4_500_000, warmup_steps=10_000),)), given).phases
    assert phase == Phase(**given)
    (phase,) = with_flags(Recipe(), given | {"warmup_steps": 7}).phases
    assert phase.warmup_steps == 7


def test_options_apply_to_every_phase_unless_ambiguous():
    recipe = Recipe(phases=(Phase(steps=9, warmup_steps=3), Phase(steps=1)))
    phases = with_flags(recipe, {"batch_patients": 7, "learning_rate": 0.5}).phases
    assert phases == (
        Phase(steps=9, warmup_steps=3, batch_patients=7, learning_rate=0.5),
        Phase(steps=1, batch_patients=7, learning_rate=0.5),
    )
    for given, flag in (({"steps": 3}, "--steps"), ({"max_seq_length": 3}, "--max-seq-length")):
        with raises_user_error("ambiguous-phase", flag):
            with_flags(recipe, given)


@pytest.mark.parametrize(
    ("given", "key", "mentioned"),
    [
        ({"steps": 0}, "invalid-setting", "steps"),
        ({"steps": 3, "epochs": 1.0}, "exclusive-settings", "epochs"),
        ({"batch_patients": 3, "batch_tokens": 3}, "exclusive-settings", "batch_tokens"),
        ({"precision": "half"}, "invalid-setting", "half"),
        ({"eval_steps": -1}, "invalid-setting", "every_steps"),
    ],
)
def test_invalid_options_are_refused(given, key, mentioned):
    with raises_user_error(key, mentioned):
        with_flags(Recipe(), given)


def test_early_stopping_without_evaluations_is_refused():
    recipe = Recipe(evaluation=EvaluationSettings(every_steps=3), early_stopping=EarlyStopping(patience=1))
    with raises_user_error("missing-setting", "early_stopping"):
        with_flags(recipe, {"eval_steps": 0})


def test_an_invalid_recipe_is_refused_before_tensorflow_is_imported(tmp_path, capsys):
    (tmp_path / "my.toml").write_text("sede = 3")
    features = ["--features", str(tmp_path), "--output", str(tmp_path / "D")]
    assert main(["pretrain", *features, "--recipe", str(tmp_path / "my.toml")]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"ehr-bert pretrain: {tmp_path / 'my.toml'}: ")
    assert "[unknown-setting]" in message


def test_one_of_several_workers_prints_how_to_export_the_phases(tmp_path, capsys, monkeypatch):
    for folder in ("phase-1", "phase-2", "exports/phase-1"):
        (tmp_path / folder).mkdir(parents=True)
    line = (
        "To export the model after phase-2, run: "
        f"ehr-bert convert {tmp_path}/phase-2 {tmp_path}/exports/phase-2"
    )
    for worker, output in ((1, ""), (0, f"{line}\n")):
        monkeypatch.setenv("TF_CONFIG", tf_config(["a:1", "b:2"], worker))
        export_phases(tmp_path, 2)
        assert capsys.readouterr().out == output


def test_help_lists_every_option_without_importing_tensorflow():
    program = (
        "import sys\nfrom ehr_bert.cli import main\n"
        "try: main(['pretrain', '--help'])\nexcept SystemExit: print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    assert "--micro-batch-tokens N" in done.stdout
    assert "None" not in done.stdout
