"""Conditions, their causes and their codes, read from `conditions.toml` and `codes.tsv`."""

import csv
import tomllib
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Chronic:
    """A chronic condition. `conditions.toml` describes each value."""

    name: str
    coded: float
    brings: list[str]
    arises: float = 0.0
    after: dict[str, float] = field(default_factory=dict)
    stay: float = 0.0
    sex: str | None = None


@dataclass(frozen=True)
class Acute:
    """An acute problem. `conditions.toml` describes each value."""

    name: str
    outpatient: float
    inpatient: float
    stay: float


@dataclass(frozen=True)
class SimulatedOutcome:
    """The outcome to predict and its log-odds. `conditions.toml` describes each value."""

    condition: str
    horizon_days: int
    recency_days: float
    log_odds: float
    prolonged_stay: float
    most_stays: int
    recorded: dict[str, float]
    recent: dict[str, float]
    together: list[dict[str, Any]]
    in_order: list[dict[str, Any]]


@dataclass(frozen=True)
class Conditions:
    """All conditions. Each has a family of codes, numbered by its position in `families`.

    Attributes:
        chronic: Chronic conditions, each after its causes.
        acute: Acute problems.
        outcome: The outcome: one of the chronic conditions, and the weights of its risk factors.
        codes: All codes, with the prefix of their system.
        titles: Title of each code.
        members: Indices into `codes` of each family, first in `ICD9`, then in `ICD10`, the most frequent code
            first.
    """

    chronic: list[Chronic]
    acute: list[Acute]
    outcome: SimulatedOutcome
    codes: list[str]
    titles: list[str]
    members: list[list[list[int]]]

    @cached_property
    def families(self) -> list[Chronic | Acute]:
        """The families: `chronic`, then `acute`."""
        return [*self.chronic, *self.acute]

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of each family by its name."""
        return {family.name: number for number, family in enumerate(self.families)}


@cache
def load_conditions() -> Conditions:
    """Load the conditions that come with the package."""
    folder = files("ehr_bert.simulation")
    model = tomllib.loads((folder / "conditions.toml").read_text("utf-8"))
    lines = (folder / "codes.tsv").read_text("utf-8").splitlines()
    rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    members: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(rows):
        members.setdefault((row["code"].partition("_")[0], row["family"]), []).append(index)
    names = [*model["chronic"], *model["acute"]]
    return Conditions(
        chronic=[Chronic(name, **values) for name, values in model["chronic"].items()],
        acute=[Acute(name, **values) for name, values in model["acute"].items()],
        outcome=SimulatedOutcome(**model["outcome"]),
        codes=[row["code"] for row in rows],
        titles=[row["title"] for row in rows],
        members=[[members[system, name] for name in names] for system in ("ICD9", "ICD10")],
    )
