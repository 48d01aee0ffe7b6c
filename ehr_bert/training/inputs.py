"""What a training takes in: its examples are opened, and its recipe is made to fit them, or refused."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ehr_bert.errors import UserError
from ehr_bert.examples import packed
from ehr_bert.examples.reading import Examples, ExamplesInfo, open_examples
from ehr_bert.model.config import ModelConfig
from ehr_bert.training.recipe import MaskedCodes, Phase, Recipe
from ehr_bert.vocabulary import Vocabulary


@dataclass(frozen=True)
class Features:
    """Examples of one length.

    Attributes:
        train: TFRecord files to train on.
        held_out: TFRecord files to evaluate on; those of the training if there are none.
    """

    train: Sequence[Path]
    held_out: Sequence[Path] = ()


@dataclass(frozen=True)
class Inputs:
    """Opened examples, with a recipe that fits them.

    Attributes:
        recipe: With the model's `vocab_size`.
        vocabulary: The tokens, if they are known.
        features: Where the examples of each phase lie.
        train: Examples to train on, by phase.
        held_out: Examples to evaluate on, of the last phase's features.
    """

    recipe: Recipe
    vocabulary: Vocabulary | None
    features: tuple[Features, ...]
    train: tuple[Examples, ...]
    held_out: Examples

    @property
    def trained_on(self) -> list[ExamplesInfo]:
        """What the examples of all phases hold, each once."""
        return [examples.info for examples in dict.fromkeys(self.train)]


def open_inputs(
    recipe: Recipe,
    features: Sequence[Features],
    vocabulary_file: Path | None = None,
    max_predictions_per_seq: int | None = None,
) -> Inputs:
    """Opens all examples.

    Args:
        recipe: As it was asked for.
        features: Examples; of several lengths, for phases whose windows differ.
        vocabulary_file: Sets the model's `vocab_size`; the vocabulary beside the examples if None.
        max_predictions_per_seq: Masked codes that count of each of the tutorial's examples; all if None.

    Raises:
        UserError: the examples, the vocabulary and the recipe don't fit together.
    """
    opened = [_opened(each.train, max_predictions_per_seq) for each in features]
    infos = [examples.info for examples in opened]
    chosen = [features_of(phase, number, infos) for number, phase in enumerate(recipe.phases, 1)]
    last = chosen[-1]
    held_out = opened[last]
    if features[last].held_out:
        held_out = _opened(features[last].held_out, max_predictions_per_seq)
    infos = [*infos, held_out.info]
    vocabulary = _vocabulary(vocabulary_file, infos)
    model = _fitting(recipe.model, vocabulary_file, vocabulary, infos)
    recipe = dataclasses.replace(recipe, model=model)
    for number, place in enumerate(chosen, 1):
        _check_phase(recipe, number, infos[place])
    return Inputs(
        recipe=recipe,
        vocabulary=vocabulary,
        features=tuple(features[place] for place in chosen),
        train=tuple(opened[place] for place in chosen),
        held_out=held_out,
    )


def features_of(phase: Phase, number: int, infos: Sequence[ExamplesInfo]) -> int:
    """The place in `infos` of the examples that a phase takes.

    Args:
        phase: The phase.
        number: Its number, from 1.
        infos: What each of the features holds.

    Raises:
        UserError: none has the phase's length, or several have it.
    """
    wanted = phase.max_seq_length
    lengths = [info.max_seq_length for info in infos]
    if len(infos) == 1:
        if wanted and wanted < lengths[0] and infos[0].kind == packed.KIND:
            raise UserError(
                f"phases.{number}.max_seq_length is {wanted}, and the examples are packed in windows of up "
                f"to {lengths[0]}: run `ehr-bert features --max-seq-length {wanted}` into another folder, "
                "and name both (--features A B)"
            )
        return 0
    places = [place for place, length in enumerate(lengths) if length == wanted]
    if len(places) != 1:
        raise UserError(
            f"phases.{number}.max_seq_length is {wanted or 'not stated'}, and the features have windows of "
            f"up to {', '.join(map(str, lengths))}: name one folder of the phase's length"
        )
    return places[0]


def _opened(files: Sequence[Path], max_predictions_per_seq: int | None) -> Examples:
    examples = open_examples(files)
    stored = examples.info.max_predictions_per_seq
    if stored and max_predictions_per_seq and max_predictions_per_seq < stored:
        examples.info = dataclasses.replace(examples.info, max_predictions_per_seq=max_predictions_per_seq)
    return examples


def _vocabulary(file: Path | None, infos: Sequence[ExamplesInfo]) -> Vocabulary | None:
    """The vocabulary that is named, or else the examples' own."""
    told = {info.files[0]: info.vocabulary for info in infos if info.vocabulary}
    if file:
        vocabulary = Vocabulary.read(file)
        for name, other in told.items():
            if other.sha256 != vocabulary.sha256:
                raise UserError(f"{file} is not the vocabulary that {name} was made with: take that one")
        return vocabulary
    by_hash = {vocabulary.sha256: name for name, vocabulary in told.items()}
    if len(by_hash) > 1:
        raise UserError(
            f"{' and '.join(by_hash.values())} were made with different vocabularies: make them with the same"
        )
    return next(iter(told.values()), None)


def _fitting(
    model: ModelConfig, file: Path | None, vocabulary: Vocabulary | None, infos: Sequence[ExamplesInfo]
) -> ModelConfig:
    """The model's shape with its `vocab_size`, once it is known to fit the examples."""
    if vocabulary and (file or model.vocab_size is None):
        model = dataclasses.replace(model, vocab_size=len(vocabulary))
    if model.vocab_size is None:
        raise UserError("the examples come without a vocabulary: name one (--vocab_file), or set vocab_size")
    if vocabulary and model.vocab_size < len(vocabulary):
        raise UserError(
            f"the model's vocab_size is {model.vocab_size}, the examples' vocabulary has {len(vocabulary)} "
            "tokens: leave vocab_size out, or set it to that or more"
        )
    max_id = max(info.max_id for info in infos)
    if max_id >= model.vocab_size:
        raise UserError(
            f"the examples hold ids up to {max_id}, and vocab_size is {model.vocab_size}: "
            "it must be larger, or the vocabulary is another's"
        )
    if model.stay_pooling == "cls" and infos[0].kind is not None and infos[0].cls_id is None:
        print("the examples have no [CLS]: the stay objective is read off the first code")
        model = dataclasses.replace(model, stay_pooling="first")
    return model


def _check_phase(recipe: Recipe, number: int, info: ExamplesInfo) -> None:
    """Refuses what the recipe asks of a phase's examples in vain."""
    most, phase = recipe.model.max_position_embeddings, recipe.phases[number - 1]
    if min(info.longest, phase.max_seq_length or info.longest) > most:
        raise UserError(
            f"the examples have up to {info.longest} tokens, over model.max_position_embeddings, which is "
            f"{most}: raise it, or state phases.{number}.max_seq_length"
        )
    masked, default = recipe.masked_codes, MaskedCodes()
    for key in ("probability", "mask_share", "random_share"):
        if info.kind != packed.KIND and getattr(masked, key) != getattr(default, key):
            raise UserError(
                f"masked_codes.{key} is {getattr(masked, key)}, and the tutorial's examples were masked when "
                "they were written: leave it out, or make packed ones (`ehr-bert features`)"
            )
