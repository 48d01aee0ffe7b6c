"""`ehr-bert plan`."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from ehr_bert.cli.counts import count, positive
from ehr_bert.cli.training_arguments import add_features, named_features

if TYPE_CHECKING:
    from collections.abc import Callable

    from ehr_bert.training.plan import PhaseWork


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("recipe", type=Path, help="recipe with the settings of the training run (TOML)")
    add_features(
        parser,
        "examples, as for `ehr-bert pretrain`; default: each example fills one window of the phase",
        required=False,
    )
    parser.add_argument(
        "--fill",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="share of each window that holds real tokens, without --features",
    )
    parser.add_argument(
        "--vocab-size",
        type=count,
        metavar="N",
        help="size of the vocabulary, without --features",
    )
    parser.add_argument(
        "--devices", type=count, default=1, metavar="N", help="number of devices that share an update"
    )
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument(
        "--tokens-per-second",
        type=positive,
        metavar="R",
        help="real tokens per second, over all devices",
    )
    speed.add_argument(
        "--summary",
        type=Path,
        metavar="FILE",
        help="summary.json of another training run on the same kind of device, to take its speed from",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the estimated work, memory and time of a training run."""
    from ehr_bert.errors import UserError
    from ehr_bert.quiet import import_tensorflow
    from ehr_bert.training.recipe import Recipe

    recipe = Recipe.read(arguments.recipe)
    if not 0 < arguments.fill <= 1:
        raise UserError("fill-out-of-range", f"--fill is {arguments.fill}. It must be above 0 and at most 1.")
    import_tensorflow()
    from ehr_bert.report.plan import plan_table
    from ehr_bert.training.plan import plan_from_features, plan_from_recipe

    if arguments.features is not None:
        plan = plan_from_features(recipe, named_features(arguments.features), arguments.devices)
    else:
        if arguments.vocab_size is not None:
            model = dataclasses.replace(recipe.model, vocab_size=arguments.vocab_size)
            recipe = dataclasses.replace(recipe, model=model)
        plan = plan_from_recipe(recipe, arguments.devices, arguments.fill)
    print(plan_table(plan, _seconds(arguments)))


def _seconds(arguments: argparse.Namespace) -> "Callable[[PhaseWork], float] | None":
    """Return a function for the duration of a phase, if a speed is given."""
    from ehr_bert.training.plan import device_flops_per_second

    if arguments.tokens_per_second is not None:
        return lambda work: work.real_tokens / arguments.tokens_per_second
    if arguments.summary is not None:
        speed = device_flops_per_second(arguments.summary) * arguments.devices
        return lambda work: work.flops / speed
    return None
