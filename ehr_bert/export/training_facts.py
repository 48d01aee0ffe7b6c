"""Facts about a training run for the model card, without patients, dates and paths."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ehr_bert.files import read_json
from ehr_bert.toml import read_toml, toml_text
from ehr_bert.training.record.ancestry import Ancestry
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.training.record.metrics_log import read_metrics


@dataclass(frozen=True)
class TrainingFacts:
    """Facts about the training run of a model. Unknown facts are empty.

    Attributes:
        examples: Descriptions of the training examples, as `ExamplesInfo.to_dict` returns them.
        recipe: The recipe as TOML, without the path of the initial weights.
        figures: Results of the evaluation of this checkpoint, by name.
        ancestry: The training runs that the weights come from.
    """

    examples: tuple[Mapping[str, Any], ...] = ()
    recipe: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    ancestry: Ancestry = field(default_factory=Ancestry)


def read_training_facts(folder: TrainingFolder, step: int) -> TrainingFacts:
    """Read the facts of a training folder.

    Args:
        folder: The training folder.
        step: Number of updates of the checkpoint, which selects its evaluation.

    Raises:
        UserError: A file of the folder cannot be read (key `unreadable-file` or `invalid-json`).
    """
    recipe = ""
    if folder.recipe_file.exists():
        settings = read_toml(folder.recipe_file)  # its objectives need not be installed here
        recipe = toml_text({key: value for key, value in settings.items() if key != "init"})
    figures = {
        name.removeprefix("eval/"): value
        for line in read_metrics(folder)
        if line["step"] == step
        for name, value in line.items()
        if name.startswith("eval/")
    }
    examples = read_json(folder.examples_file).get("examples", [])
    generations = Ancestry.read(folder.path).generations
    if generations:
        newest, *older = generations
        generations = (dataclasses.replace(newest, steps=step), *older)
    return TrainingFacts(tuple(examples), recipe, figures, Ancestry(generations))
