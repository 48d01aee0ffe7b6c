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
    """Add the arguments of the command."""
    add_features(
        parser,
        "output of `ehr-bert features`; several folders if the phases of the recipe have different window "
        "lengths; NAME=FOLDER names a corpus for the mixtures of the recipe",
    )
    add_path(parser, "--output", "training folder; a training run in it is resumed")
    _add_optional(
        parser,
        "--recipe",
        Path,
        "recipe with the settings of the training run (TOML); default: shape and objectives of Med-BERT",
    )
    parser.add_argument(
        "--force", action="store_true", help="resume a training run that has another recipe or other examples"
    )
    parser.add_argument("--profile", action="store_true", help="profile a few updates for TensorBoard")

    group = parser.add_argument_group("devices")
    _add_optional(
        group, "--devices", int, "use the first N GPUs, or N virtual CPU devices; default: all GPUs"
    )
    _add_optional(group, "--tpu", str, "name of a TPU")

    group = parser.add_argument_group("overrides of recipe settings (docs/recipes.md)")
    _add_optional(
        group, "--steps", int, "number of updates; 10%% of them are warm-up unless --warmup-steps is given"
    )
    _add_optional(group, "--epochs", float, "passes over all patients, instead of --steps")
    _add_optional(group, "--batch-patients", int, "patients per update, over all devices")
    _add_optional(group, "--batch-tokens", int, "real tokens per update, instead of --batch-patients")
    _add_optional(group, "--micro-batch-tokens", int, "positions per micro-batch and device")
    _add_optional(group, "--max-seq-length", int, "maximum tokens per window")
    _add_optional(group, "--learning-rate", float, "peak learning rate")
    _add_optional(group, "--warmup-steps", int, "updates until the peak learning rate")
    _add_optional(group, "--seed", int, "random seed of weights, masks, dropout and the order of patients")
    _add_optional(group, "--precision", str, "auto, float32 or bfloat16")
    _add_optional(group, "--init", str, "model to initialise from, such as a training folder or an export")
    _add_optional(group, "--eval-steps", int, "updates between evaluations; 0: only one at the end")
    _add_optional(group, "--checkpoint-steps", int, "updates between checkpoints")
    _add_optional(group, "--report-steps", int, "updates between reports")


def run(arguments: argparse.Namespace) -> None:
    """Train on the training split and evaluate on the validation split.

    After a training run with several phases, export the model at the end of each phase.
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
    """Export the model at the end of each phase to `exports/phase-<number>`, unless it exists.

    With several workers, one of them prints the commands instead.

    Args:
        folder: Training folder.
        phases: Number of phases.
    """
    from ehr_bert.training.devices import is_chief_of_tf_config

    if "TF_CONFIG" in os.environ and not is_chief_of_tf_config():
        return
    for name in (f"phase-{number}" for number in range(1, phases + 1)):
        output = folder / "exports" / name
        if output.exists() or not (folder / name).exists():
            continue
        if "TF_CONFIG" in os.environ:  # the export would wait for the other workers, which have ended
            print(f"To export the model after {name}, run: ehr-bert convert {folder / name} {output}")
            continue
        from ehr_bert.export.folder import export

        print(export(folder / name, output))


def with_flags(recipe: "Recipe", given: Mapping[str, Any]) -> "Recipe":
    """Return the recipe with the settings of command-line options.

    Args:
        recipe: Recipe.
        given: Values by option name. Options that were not given are absent.

    Raises:
        UserError: A value is invalid, or an option would apply to several phases (key `ambiguous-phase`).
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
                "ambiguous-phase",
                f"--{key.replace('_', '-')} would apply to each of the {len(recipe.phases)} phases of the "
                "recipe. Set it in a copy of the recipe.",
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


def _add_optional(group: "argparse._ActionsContainer", flag: str, value_type: type, purpose: str) -> None:
    """Add an option without a default."""
    metavar = {int: "N", float: "X", str: "NAME", Path: "FILE"}[value_type]
    group.add_argument(flag, type=value_type, metavar=metavar, help=purpose)
