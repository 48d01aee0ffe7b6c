"""The ancestry of a model: the training runs, and their corpora, that its weights come from.

`ancestry.json` is part of a training folder and of an export. It identifies weights, vocabularies, recipes
and corpora by fingerprints.
"""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from ehr_bert.files import read_json, write_json
from ehr_bert.settings import Natural, Settings
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.weights.pretrained import Pretrained

FILE = "ancestry.json"

TRAINING, HUGGING_FACE, TENSORFLOW_1 = "ehr-bert training", "Hugging Face folder", "TensorFlow 1 checkpoint"
"""Values of `Generation.origin`."""


@dataclass(frozen=True)
class Corpus(Settings):
    """Examples that a model was trained on.

    Attributes:
        fingerprint: Fingerprint of the examples, see `ExamplesInfo`.
        patients: Number of patients.
        real_tokens: Number of tokens without padding.
        name: Name of the corpus in the mixture, if it has one.
    """

    fingerprint: str
    patients: Natural
    real_tokens: Natural
    name: str | None = None


@dataclass(frozen=True)
class Generation(Settings):
    """One training run in a model's ancestry, or a model from another program. None means unknown.

    Attributes:
        origin: Source of the weights, such as `ehr-bert training`.
        weights_sha256: `Pretrained.sha256` of the weights that the next generation started from. None for the
            training run itself.
        steps: Number of updates of this training run behind those weights.
        vocabulary_sha256: `Vocabulary.sha256`.
        tokens: Number of tokens in the vocabulary.
        recipe_sha256: Fingerprint of all settings.
        corpora: Corpora that it was trained on.
    """

    origin: str
    weights_sha256: str | None = None
    steps: Natural | None = None
    vocabulary_sha256: str | None = None
    tokens: Natural | None = None
    recipe_sha256: str | None = None
    corpora: tuple[Corpus, ...] = ()

    def __str__(self) -> str:
        updates = "" if self.steps is None else f", {self.steps:,} update{'s' * (self.steps != 1)}"
        lines = [f"{self.origin}{updates}"]
        tokens = "" if self.tokens is None else f" ({self.tokens:,} tokens)"
        for name, fingerprint in (
            ("weights", self.weights_sha256),
            ("vocabulary", self.vocabulary_sha256 and self.vocabulary_sha256 + tokens),
            ("recipe", self.recipe_sha256),
        ):
            lines.append(f"  {name:<11}{fingerprint or 'unknown'}")
        for corpus in self.corpora:
            named = f"{corpus.name}, " if corpus.name else ""
            lines.append(
                f"  corpus     {corpus.fingerprint} ({named}{corpus.patients:,} patients, "
                f"{corpus.real_tokens:,} tokens)"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Ancestry(Settings):
    """The generations that lead to a model.

    Attributes:
        generations: The newest first. Each was initialised from the one after it. The last one was
            initialised at random if it is a training run of this program. Otherwise its ancestors are
            unknown.
    """

    generations: tuple[Generation, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "Ancestry":
        """Read `ancestry.json`. Without the file the ancestry is empty."""
        file = folder / FILE
        return cls.from_dict(read_json(file)) if file.exists() else cls()

    def write(self, folder: Path) -> None:
        """Write `ancestry.json`."""
        write_json(folder / FILE, self.to_dict())

    def __str__(self) -> str:
        return "\ninitialised from\n".join(map(str, self.generations))


def ancestry_of(model: Pretrained) -> Ancestry:
    """Return the ancestry of a model, with the weights and updates of the newest generation filled in."""
    source = model.source
    folder = source if source.is_dir() else source.parent
    newest, *older = Ancestry.read(folder).generations or (_unrecorded(model, folder),)
    newest = dataclasses.replace(
        newest,
        weights_sha256=model.sha256,
        steps=_step_named(source) if newest.steps is None else newest.steps,
    )
    return Ancestry((newest, *older))


def record_ancestry(folder: Path, generation: Generation, parent: Pretrained | None, resumed: bool) -> None:
    """Write the ancestry of a training run into its folder.

    Args:
        folder: Training folder.
        generation: Entry of this training run.
        parent: Model that it is initialised from, if there is one.
        resumed: Whether the training run in the folder is resumed. Its corpora are kept, and new ones
            are added.
    """
    older = ancestry_of(parent).generations if parent else ()
    if resumed:
        previous, *rest = Ancestry.read(folder).generations or (generation,)
        corpora = dict.fromkeys((*previous.corpora, *generation.corpora))
        generation, older = dataclasses.replace(generation, corpora=tuple(corpora)), tuple(rest)
    Ancestry((generation, *older)).write(folder)


def _unrecorded(model: Pretrained, folder: Path) -> Generation:
    """Return the generation of a model without `ancestry.json`."""
    if model.source.is_dir():
        origin = HUGGING_FACE
    else:
        origin = TRAINING if TrainingFolder(folder).recipe_file.exists() else TENSORFLOW_1
    vocabulary = model.vocabulary
    return Generation(
        origin,
        vocabulary_sha256=vocabulary.sha256 if vocabulary else None,
        tokens=len(vocabulary) if vocabulary else None,
    )


def _step_named(source: Path) -> int | None:
    """Return the number of updates in the name of a checkpoint."""
    number = re.search(r"-(\d+)$", source.name)
    return int(number[1]) if number and not source.is_dir() else None
