"""Records of a training run in its folder, and the check that the folder contains no other training run."""

import hashlib
from pathlib import Path
from typing import Any

from ehr_bert.errors import UserError
from ehr_bert.files import read_json, write_json
from ehr_bert.settings import differences
from ehr_bert.toml import toml_text, toml_value
from ehr_bert.training.inputs import PretrainingInputs
from ehr_bert.training.recipe import Recipe
from ehr_bert.training.record.ancestry import TRAINING, Corpus, Generation, record_ancestry
from ehr_bert.training.record.checkpoints import has_checkpoint
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.weights.pretrained import Pretrained

SHOWN_DIFFERENCES = 4
"""Maximum number of differing keys that the error lists."""


def check_folder(folder: TrainingFolder, inputs: PretrainingInputs) -> None:
    """Refuse a folder that contains another training run.

    Raises:
        UserError: The training run in the folder has another recipe or other examples (key
            `output-of-other-settings`).
    """
    if has_checkpoint(folder.path):
        _refuse(folder.recipe_file, Recipe.read(folder.recipe_file).differences(inputs.recipe))
        # The paths of the examples are not compared: files may be moved.
        recorded = {key: value for key, value in read_json(folder.examples_file).items() if key != "paths"}
        _refuse(folder.examples_file, differences(recorded, _examples(inputs)))


def claim_folder(folder: TrainingFolder, inputs: PretrainingInputs, parent: Pretrained | None) -> None:
    """Record the model, the examples, the recipe and the ancestry of a training run in its folder."""
    recipe, vocabulary = inputs.recipe, inputs.vocabulary
    folder.path.mkdir(parents=True, exist_ok=True)
    if vocabulary:
        vocabulary.write(folder.vocabulary_file)
    paths = [str(file.absolute()) for file in inputs.files]
    write_json(folder.config_file, recipe.model.to_dict())
    write_json(folder.examples_file, {**_examples(inputs), "paths": paths})
    recipe.write(folder.recipe_file)
    record_ancestry(folder.path, _generation(inputs), parent, resumed=has_checkpoint(folder.path))


def _examples(inputs: PretrainingInputs) -> dict[str, Any]:
    """Return the content of `examples.json`, without the paths."""
    vocabulary = inputs.vocabulary
    return {
        "mask_id": inputs.mask_id,
        "cls_id": inputs.cls_id,
        "vocabulary_sha256": vocabulary.sha256 if vocabulary else None,
        "examples": [({"corpus": name} if name else {}) | info.to_dict() for name, info in inputs.corpora],
    }


def _generation(inputs: PretrainingInputs) -> Generation:
    """Return the entry of this training run in the model's ancestry."""
    vocabulary = inputs.vocabulary
    return Generation(
        origin=TRAINING,
        vocabulary_sha256=vocabulary.sha256 if vocabulary else None,
        tokens=inputs.recipe.model.vocab_size,
        recipe_sha256=hashlib.sha256(toml_text(inputs.recipe.to_dict()).encode()).hexdigest(),
        corpora=tuple(
            Corpus(info.fingerprint, info.patients, info.real_tokens, name or None)
            for name, info in inputs.corpora
        ),
    )


def _refuse(file: Path, differing: dict[str, tuple[Any, Any]]) -> None:
    """Raise an error that lists the differing keys, if there are any."""
    if differing:
        listed = [
            f"{key} is {_shown(recorded)}, not {_shown(requested)}"
            for key, (recorded, requested) in differing.items()
        ]
        more = ", ..." if len(listed) > SHOWN_DIFFERENCES else ""
        raise UserError(
            "output-of-other-settings",
            f"{file.parent} contains a training run with other settings ({file.name}): "
            f"{', '.join(listed[:SHOWN_DIFFERENCES])}{more}. Use the same settings, choose another --output, "
            "or resume with the new settings (--force).",
        )


def _shown(value: Any) -> str:
    return "none" if value is None else toml_value(value)
