"""`ehr-bert pretrain`."""

import argparse
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ehr_bert.cli.path_arguments import add_path
from ehr_bert.cli.training_arguments import add_features, named_features

if TYPE_CHECKING:
    from ehr_bert.training.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    add_features(
        parser,
        "what `ehr-bert features` made; several, packed at different lengths, for a recipe's phases; "
        "NAME=FOLDER for a corpus that its mixtures name",
    )
    add_path(parser, "--output", "training folder; run again, it goes on")
    _add_optional(
        parser, "--recipe", Path, "how to train, as TOML; without it Med-BERT's shape and objectives"
    )
    parser.add_argument(
        "--force", action="store_true", help="go on with a training of another recipe, or other examples"
    )
    parser.add_argument("--profile", action="store_true", help="profile a few steps, for TensorBoard")

    group = parser.add_argument_group("where it is computed")
    _add_optional(group, "--devices", int, "the first N GPUs, or N shares of a CPU; without it all GPUs")
    _add_optional(group, "--tpu", str, "a TPU's name")

    group = parser.add_argument_group("in place of the recipe's settings (docs/recipes.md)")
    _add_optional(group, "--steps", int, "updates; a tenth of them warm up, unless --warmup-steps is given")
    _add_optional(group, "--epochs", float, "times that all patients are seen, in place of --steps")
    _add_optional(group, "--batch-patients", int, "patients an update, over all devices")
    _add_optional(group, "--batch-tokens", int, "real tokens an update, in place of --batch-patients")
    _add_optional(group, "--micro-batch-tokens", int, "positions that a device computes at a time")
    _add_optional(group, "--max-seq-length", int, "tokens of a window at most")
    _add_optional(group, "--learning-rate", float, "the peak")
    _add_optional(group, "--warmup-steps", int, "updates until the peak")
    _add_optional(group, "--seed", int, "of weights, masks, dropout and the order of patients")
    _add_optional(group, "--precision", str, "auto, float32 or bfloat16")
    _add_optional(
        group, "--init", str, "model to take the first weights from, such as a training or an export folder"
    )
    _add_optional(group, "--eval-steps", int, "updates between evaluations; 0 for one at the end alone")
    _add_optional(group, "--checkpoint-steps", int, "updates between checkpoints")
    _add_optional(group, "--report-steps", int, "updates between reports")


def run(arguments: argparse.Namespace) -> None:
    """Trains on the training split of the features, and evaluates on their validation split.

    After a training of several phases it exports the model at the end of each.
    """
    from ehr_bert.quiet import import_tensorflow
    from ehr_bert.training.recipe import Recipe

    given = {name: value for name, value in vars(arguments).items() if value is not None}
    recipe = Recipe.read(given["recipe"]) if "recipe" in given else Recipe()
    recipe = with_flags(recipe, given)
    import_tensorflow()
    from ehr_bert.training.devices import Devices, Tpu
    from ehr_bert.training.execution import pretrain
    from ehr_bert.training.request import PretrainingRequest

    result = pretrain(
        PretrainingRequest(
            features=named_features(arguments.features),
            output=arguments.output,
            recipe=recipe,
            devices=Devices(given.get("devices"), Tpu(given["tpu"]) if "tpu" in given else None),
            force=arguments.force,
            profile=arguments.profile,
        )
    )
    if result.checkpoint:
        print(result)
    if result.reason.exit_code:
        raise SystemExit(result.reason.exit_code)
    if len(recipe.phases) > 1:
        export_phases(arguments.output, len(recipe.phases))


def export_phases(folder: Path, phases: int) -> None:
    """Exports the model at the end of each phase to `exports/phase-<number>`, unless it is there.

    Where several workers trained, one says how it is done.

    Args:
        folder: The training folder.
        phases: How many the training has.
    """
    from ehr_bert.training.devices import is_chief_of_tf_config

    if "TF_CONFIG" in os.environ and not is_chief_of_tf_config():
        return
    for name in (f"phase-{number}" for number in range(1, phases + 1)):
        output = folder / "exports" / name
        if output.exists() or not (folder / name).exists():
            continue
        if "TF_CONFIG" in os.environ:  # the other workers have ended, and would be missed
            print(f"to export the model after {name}: ehr-bert convert {folder / name} {output}")
            continue
        from ehr_bert.export.folder import export

        export(folder / name, output)


def with_flags(recipe: "Recipe", given: Mapping[str, Any]) -> "Recipe":
    """The recipe with the settings of flags in place of its own.

    Args:
        recipe: The recipe.
        given: By a flag's name its value; flags that were not given are absent.

    Raises:
        UserError: a value doesn't fit, or a flag would count for several phases that differ in it.
    """
    from ehr_bert.errors import UserError

    def of(table: Any, **flags: str) -> Any:
        return dataclasses.replace(
            table, **{key: given[flag] for key, flag in flags.items() if flag in given}
        )

    phase_keys = [field.name for field in dataclasses.fields(recipe.phases[0])]
    changes = {key: given[key] for key in phase_keys if key in given}
    for key in ("steps", "epochs", "max_seq_length"):
        if key in changes and len(recipe.phases) > 1:
            raise UserError(
                f"--{key.replace('_', '-')} would count for each of the recipe's {len(recipe.phases)} "
                "phases: change it in a copy of the recipe"
            )
    if "steps" in changes or "epochs" in changes:
        changes = {"steps": None, "epochs": None, "warmup_steps": None} | changes
    if "batch_patients" in changes or "batch_tokens" in changes:
        changes = {"batch_patients": None, "batch_tokens": None} | changes
    recipe = of(recipe, seed="seed", precision="precision", init="init", report_every="report_steps")
    return dataclasses.replace(
        recipe,
        phases=tuple(dataclasses.replace(phase, **changes) for phase in recipe.phases),
        evaluation=of(recipe.evaluation, every_steps="eval_steps"),
        checkpoints=of(recipe.checkpoints, every_steps="checkpoint_steps"),
    )


def _add_optional(group: "argparse._ActionsContainer", flag: str, kind: type, purpose: str) -> None:
    """Add an option without a default."""
    metavar = {int: "N", float: "X", str: "NAME", Path: "FILE"}[kind]
    group.add_argument(flag, type=kind, metavar=metavar, help=purpose)
