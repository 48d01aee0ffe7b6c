"""Small trainings that run in separate processes."""

import dataclasses
from pathlib import Path

from ehr_bert.training.recipe import Checkpointing, Phase, Recipe
from tests.training.small import CONFIG, write_packed

STEPS = 60

RECIPE = Recipe(
    model=dataclasses.replace(CONFIG, hidden_dropout_prob=0.1),
    phases=(Phase(batch_patients=9, steps=STEPS, micro_batch_tokens=60, learning_rate=1e-3),),
    checkpoints=Checkpointing(every_steps=4),
    compile=False,
    report_every=10,
)


def write_inputs(folder: Path, recipe: Recipe = RECIPE) -> tuple[Path, Path]:
    """Write a recipe and features into `folder`, and return their paths."""
    write_packed(folder, 7, 13)
    recipe.write(folder / "recipe.toml")
    return folder / "recipe.toml", folder / "F13"
