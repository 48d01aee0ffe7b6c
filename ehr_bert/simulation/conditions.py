"""Conditions, their causes and their codes, read from the two data files beside this module."""

import csv
import tomllib
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Chronic:
    """A condition that stays. `conditions.toml` says what each value means."""

    name: str
    coded: float
    brings: list[str]
    arises: float = 0.0
    after: dict[str, float] = field(default_factory=dict)
    stay: float = 0.0
    sex: str | None = None


@dataclass(frozen=True)
class Acute:
    """A problem that passes."""

    name: str
    outpatient: float
    inpatient: float
    stay: float


@dataclass(frozen=True)
class SimulatedOutcome:
    """What is predicted, and the log-odds of it."""

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
    """All that is known of the conditions. Each is a family of codes, numbered by its place in `families`.

    Attributes:
        chronic: `K` conditions, causes before what they cause.
        acute: Acute problems.
        outcome: One of the chronic conditions, and what it depends on.
        codes: Every code with its system's prefix.
        titles: Their titles.
        members: For `ICD9`, then `ICD10`, for each family, indices into `codes`, the commonest first.
    """

    chronic: list[Chronic]
    acute: list[Acute]
    outcome: SimulatedOutcome
    codes: list[str]
    titles: list[str]
    members: list[list[list[int]]]

    @cached_property
    def families(self) -> list[Chronic | Acute]:
        """The `F` families: `chronic`, then `acute`."""
        return [*self.chronic, *self.acute]

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of a family by its name."""
        return {family.name: number for number, family in enumerate(self.families)}


@cache
def load_conditions() -> Conditions:
    """The conditions that come with the package."""
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
