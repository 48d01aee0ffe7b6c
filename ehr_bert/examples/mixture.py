"""Mixtures: several corpora in one stream of updates, each in its own epochs."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ehr_bert.errors import UserError
from ehr_bert.examples.source import ExampleSet, Reading
from ehr_bert.examples.updates import BatchSize, UpdateBatches


@dataclass(frozen=True, eq=False)
class Mixture:
    """Corpora whose examples are trained together.

    Corpora are sorted by name: the order in which a recipe states them decides nothing.

    Attributes:
        corpora: The examples of each, by name.
        weights: The weight of each; 1 if none is stated.

    Raises:
        UserError: they were made with different vocabularies, or in different ways.
    """

    corpora: Mapping[str, ExampleSet]
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "corpora", dict(sorted(self.corpora.items())))
        (first, examples), *others = self.corpora.items()
        for name, other in others:
            if _fingerprint(other) != _fingerprint(examples):
                raise UserError(
                    f"the corpora {first} and {name} were made with different vocabularies: make one of "
                    "both (`ehr-bert vocabulary`), and their examples under it (`ehr-bert features "
                    "--vocabulary`)"
                )
            if _conventions(other) != _conventions(examples):
                raise UserError(
                    f"the corpora {first} and {name} hold examples of different kinds: make both the same "
                    "way (`ehr-bert features`)"
                )

    @property
    def shares(self) -> dict[str, Fraction]:
        """Of an update, the share that each corpus makes up."""
        weights = {name: Fraction(self.weights.get(name, 1)) for name in self.corpora}
        return {name: weight / sum(weights.values()) for name, weight in weights.items()}

    def fractions(self, batch: BatchSize) -> dict[str, Fraction]:
        """Of each corpus, that an update takes."""
        return {name: share * self.corpora[name].fraction(batch) for name, share in self.shares.items()}

    def updates(
        self,
        reading: Reading,
        *,
        batch: BatchSize,
        micro_batch_tokens: int,
        replicas: int,
        seed: tuple[int, int],
    ) -> UpdateBatches:
        """Endless updates, each with its share of every corpus: of patients, or of tokens where the batch is.

        An epoch of the mixture takes as much as its corpora have together.

        Args:
            reading: How examples are read.
            batch: How large an update is on average, over all replicas.
            micro_batch_tokens: Positions that a device holds at a time.
            replicas: Devices that share an update.
            seed: Of order and masking.

        Raises:
            UserError: as in `Examples.updates`.
        """
        portions = [self.corpora[name].portion(reading, batch, share) for name, share in self.shares.items()]
        return UpdateBatches(portions, micro_batch_tokens, replicas, seed)


def _fingerprint(examples: ExampleSet) -> str | None:
    vocabulary = examples.info.vocabulary
    return vocabulary.sha256 if vocabulary else None


def _conventions(examples: ExampleSet) -> tuple[Any, ...]:
    info = examples.info
    return info.kind, info.mask_id, info.cls_id
