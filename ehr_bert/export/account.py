"""What a training folder tells of its model, for the model card: no patient, no date and no path."""

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
class Account:
    """How a model was trained; what isn't known is empty.

    Attributes:
        examples: What it was trained on, as `ExamplesInfo.to_dict` has it, in turn.
        recipe: How, as TOML, but for where its first weights lay.
        figures: Those of its evaluation, by name.
        ancestry: The trainings that made its weights.
    """

    examples: tuple[Mapping[str, Any], ...] = ()
    recipe: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    ancestry: Ancestry = field(default_factory=Ancestry)


def read_account(folder: TrainingFolder, step: int) -> Account:
    """The account of a training folder.

    Args:
        folder: The training folder.
        step: Updates of the checkpoint that is told of: its own evaluation counts.

    Raises:
        UserError: a file of the folder can't be read.
    """
    recipe = ""
    if folder.recipe_file.exists():
        settings = read_toml(folder.recipe_file)  # Its objectives need not be installed here.
        recipe = toml_text({key: value for key, value in settings.items() if key != "init"})
    figures = {
        name.removeprefix("eval/"): value
        for line in read_metrics(folder)
        if line["step"] == step
        for name, value in line.items()
        if name.startswith("eval/")
    }
    examples = read_json(folder.examples_file).get("examples", [])
    newest, *older = Ancestry.read(folder.path).generations or (None,)
    told = (dataclasses.replace(newest, steps=step), *older) if newest else ()
    return Account(tuple(examples), recipe, figures, Ancestry(told))
