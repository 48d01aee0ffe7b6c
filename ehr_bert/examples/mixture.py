"""Mixtures: several corpora in one stream of updates. Each has separate epochs."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ehr_bert.errors import UserError
from ehr_bert.examples.source import ExampleSet, Reading
from ehr_bert.examples.updates import BatchSize, UpdateBatches


@dataclass(frozen=True, eq=False)
class Mixture:
    """Corpora that are trained together.

    Corpora are sorted by name, so that their order in a recipe does not matter.

    Attributes:
        corpora: Examples by name of the corpus.
        weights: Weights by name of the corpus; 1 if missing.

    Raises:
        UserError: The vocabularies (key `vocabulary-mismatch`) or kinds of examples (`mixed-kinds`) differ.
    """

    corpora: Mapping[str, ExampleSet]
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "corpora", dict(sorted(self.corpora.items())))
        (first, examples), *others = self.corpora.items()
        for name, other in others:
            if _fingerprint(other) != _fingerprint(examples):
                raise UserError(
                    "vocabulary-mismatch",
                    f"the corpora {first} and {name} have different vocabularies. Make a common one "
                    "(`ehr-bert vocabulary`), and write the examples with it (`ehr-bert features "
                    "--vocabulary`).",
                )
            if _conventions(other) != _conventions(examples):
                raise UserError(
                    "mixed-kinds",
                    f"the corpora {first} and {name} have examples of different kinds. Write both in the "
                    "same way (`ehr-bert features`).",
                )

    @property
    def shares(self) -> dict[str, Fraction]:
        """Share of each corpus in an update."""
        weights = {name: Fraction(self.weights.get(name, 1)) for name in self.corpora}
        return {name: weight / sum(weights.values()) for name, weight in weights.items()}

    def fractions(self, batch: BatchSize) -> dict[str, Fraction]:
        """Return the fraction of each corpus that is used per update."""
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
        """Return endless updates with the shares of all corpora, in patients or tokens, whichever the batch
        counts.

        An epoch of the mixture is as large as all corpora together.

        Args:
            reading: How examples are read.
            batch: Average size of an update, over all replicas.
            micro_batch_tokens: Positions that a device computes at a time.
            replicas: Number of devices that share an update.
            seed: Seed of order and masking.
        """
        portions = [self.corpora[name].portion(reading, batch, share) for name, share in self.shares.items()]
        return UpdateBatches(portions, micro_batch_tokens, replicas, seed)


def _fingerprint(examples: ExampleSet) -> str | None:
    vocabulary = examples.info.vocabulary
    return vocabulary.sha256 if vocabulary else None


def _conventions(examples: ExampleSet) -> tuple[Any, ...]:
    info = examples.info
    return info.kind, info.mask_id, info.cls_id
