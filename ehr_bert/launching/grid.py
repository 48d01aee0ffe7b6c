"""A grid of training runs, recipes by seeds, run one after another. An interrupted grid resumes."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ehr_bert.errors import UserError
from ehr_bert.files import read_json, refuse_changed_settings
from ehr_bert.launching.command import pretrain_command
from ehr_bert.launching.processes import Process, run_together
from ehr_bert.training.recipe import Recipe

COMPLETE = ("finished", "early stop")
"""Values of `reason` in `summary.json` of a complete training run."""


@dataclass(frozen=True)
class Trial:
    """One training run of a grid.

    Attributes:
        name: Name of the recipe.
        seed: Seed.
        folder: Training folder, `<grid>/<name>/seed-<seed>`.
    """

    name: str
    seed: int
    folder: Path

    @property
    def log(self) -> Path:
        """Log of all its processes."""
        return self.folder.with_suffix(".log")

    @property
    def recipe_file(self) -> Path:
        """Copy of the recipe, shared by all seeds."""
        return self.folder.parent / "recipe.toml"

    def summary(self) -> dict[str, Any] | None:
        """Return the summary if the training is complete and was evaluated, else None."""
        file = self.folder / "summary.json"
        summary = read_json(file) if file.exists() else {}
        return summary if summary.get("reason") in COMPLETE and summary.get("evaluation") else None


def plan_trials(recipes: Sequence[Path], seeds: int, folder: Path) -> list[Trial]:
    """Return the training runs of a grid, ordered by seed and then by recipe, and copy the recipes.

    Args:
        recipes: TOML files. The name of a file identifies its training runs.
        seeds: Number of training runs per recipe, with seeds 1, 2, ...
        folder: Folder of the grid.

    Raises:
        UserError: A recipe is invalid, two recipes have the same name (key `duplicate-recipe`), or the folder
            has training runs with other settings (`output-of-other-settings`).
    """
    by_name = {path.stem: Recipe.read(path) for path in recipes}
    if len(by_name) < len(recipes):
        names = [path.stem for path in recipes]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise UserError(
            "duplicate-recipe", f"two recipes have the name {duplicate}. Rename one of the files."
        )
    trials = [
        Trial(name, seed, folder / name / f"seed-{seed}") for seed in range(1, seeds + 1) for name in by_name
    ]
    for trial in trials[: len(by_name)]:
        recipe, copy = by_name[trial.name], trial.recipe_file
        if copy.exists():
            refuse_changed_settings(copy.parent, Recipe.read(copy).differences(recipe))
        recipe.write(copy)
    return trials


def run_trials(trials: Sequence[Trial], features: Sequence[str]) -> Iterator[tuple[Trial, dict[str, Any]]]:
    """Start the training runs that are not complete, and yield each one with its summary.

    Args:
        trials: Training runs of the grid.
        features: Values of `--features` for all training runs.

    Raises:
        UserError: A training run failed (key `training-failed`).
        SystemExit: A training run was interrupted and saved. Running the grid again resumes it.
    """
    for trial in trials:
        summary = trial.summary()
        if not summary:
            flags = ("--seed", str(trial.seed))
            command = pretrain_command(trial.recipe_file, features, trial.folder, *flags)
            status = run_together([Process(command, log=trial.log)])
            if status == os.EX_TEMPFAIL:
                raise SystemExit(status)
            summary = trial.summary()
            if status or not summary:
                raise UserError(
                    "training-failed",
                    f"the training run {trial.folder} failed with exit status {status}: "
                    f"{_last_line(trial.log)}. See {trial.log}, correct the cause and run the command again.",
                )
        yield trial, summary


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was printed")
