"""The definition of a cohort: one TOML file, one class per table. `docs/cohorts.md` documents every key."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from ehr_bert.cohorts.patterns import is_valid_pattern
from ehr_bert.errors import UserError
from ehr_bert.schemas import COHORT, LABEL, PROLONGED_STAY_DAYS, TaskKind
from ehr_bert.settings import Count, Natural, Settings, ValueRule
from ehr_bert.toml import read_toml, toml_text

SHIPPED_DEFINITIONS = files("ehr_bert.cohorts") / "definitions"
"""The folder of definitions that come with the package, one `<name>.toml` each."""


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def is_task_name(name: str) -> bool:
    """Return whether a task may have this name, which must differ from `COHORT` columns in any case."""
    return name.isidentifier() and name.lower() not in COHORT.names


TaskName = Annotated[str, ValueRule(is_task_name, "a word that is not another column of the cohort table")]
Pattern = Annotated[
    str, ValueRule(is_valid_pattern, "a code, a pattern, or a range from the lower to the higher code")
]
Day = Annotated[str, ValueRule(_is_day, "a date such as 2015-01-01")]


def _refuse_without_effect(settings: Settings, kind: str, effective: Collection[str]) -> None:
    """Raise a `UserError` if a key differs from its default although this kind does not use it."""
    for key in fields(settings):  # type: ignore[arg-type]
        if key.name in ("kind", "name", *effective) or getattr(settings, key.name) == key.default:
            continue
        known = f"which uses {', '.join(effective)}" if effective else "which uses no other key"
        raise UserError(
            "setting-without-effect",
            f'{key.name} has no effect with kind = "{kind}", {known}. Remove it.',
        )


@dataclass(frozen=True)
class Population(Settings):
    """Patients with a minimum number of visits that have one of some codes.

    A patient enters the population on the discharge date of the last of these visits. The index date is not
    before that day.

    Attributes:
        codes: Patterns. Empty for all patients.
        visits: Minimum number of visits with one of the codes.
        within_days: Maximum number of days from the first to the last of these visits. None for no maximum.
    """

    codes: tuple[Pattern, ...] = ()
    visits: Count = 1
    within_days: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.codes and self.visits > 1:
            raise UserError("setting-without-effect", "visits has no effect without codes. Remove it.")
        if self.within_days and self.visits == 1:
            raise UserError(
                "setting-without-effect",
                "within_days has no effect with visits = 1. Remove it or raise visits.",
            )


_KEYS_OF_INDEX = {
    "first_code": ("codes",),
    "nth_visit": ("visit", "min_stay_days"),
    "date": ("date",),
    "each_discharge": ("min_stay_days", "max_per_patient"),
    "before_outcome": (),
}
"""The keys that each kind of index date uses."""


@dataclass(frozen=True)
class Index(Settings):
    """The index date: the history ends on this day, and follow-up starts after it.

    Attributes:
        kind: `first_code`, the discharge date of the first visit with one of `codes`, or without codes the
            day on which the patient enters the population; `nth_visit`; `date`, the same for all patients;
            `each_discharge`, which gives a patient several index dates; `before_outcome`, the last discharge
            before the first outcome, or before the last visit of patients without the outcome.
        codes: Patterns, for `first_code`.
        visit: Number of the visit, from 1, for `nth_visit`.
        date: The day, for `date`.
        min_stay_days: Minimum length of a visit in days, for `nth_visit` and `each_discharge`. 1 excludes
            visits that start and end on the same day.
        max_per_patient: Maximum number of index dates per patient, drawn by a hash, for `each_discharge`.
            None for all. Each index date repeats the history before it, so the table grows with the square of
            the number of visits.
    """

    kind: Literal["first_code", "nth_visit", "date", "each_discharge", "before_outcome"] = "first_code"
    codes: tuple[Pattern, ...] = ()
    visit: Count = 1
    date: Day | None = None
    min_stay_days: Natural = 0
    max_per_patient: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_without_effect(self, self.kind, _KEYS_OF_INDEX[self.kind])
        if self.kind == "date" and self.date is None:
            raise UserError("missing-setting", 'date is missing. Set it, as kind = "date" needs it.')


@dataclass(frozen=True)
class History(Settings):
    """Eligibility by the history up to the index date.

    Attributes:
        min_visits: Minimum number of visits.
        min_days: Minimum number of days from the first admission to the index date.
        min_age: Minimum age in completed years.
        max_age: Maximum age in completed years.
    """

    min_visits: Count = 1
    min_days: Natural = 0
    min_age: Natural | None = None
    max_age: Natural | None = None


@dataclass(frozen=True)
class Exclusion(Settings):
    """Codes that exclude a patient.

    Attributes:
        codes: Patterns.
        when: `until_index`; `until_population`, until the first visit with a code of the population; `ever`,
            which also uses visits after the index date.
        washout_days: Length of the window before that day in which a code excludes. None for all time.
        margin_days: Number of days after the population's first code in which a code also excludes, for
            `until_population`.
    """

    codes: tuple[Pattern, ...] = ()
    when: Literal["until_index", "until_population", "ever"] = "until_index"
    washout_days: Count | None = None
    margin_days: Natural = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.codes:
            raise UserError("missing-setting", "codes is empty. List the codes that exclude a patient.")
        if self.margin_days and self.when != "until_population":
            raise UserError(
                "setting-without-effect",
                f'margin_days has no effect with when = "{self.when}". Remove it, or set when = '
                '"until_population".',
            )
        if self.washout_days and self.when == "ever":
            raise UserError(
                "setting-without-effect", 'washout_days has no effect with when = "ever". Remove it.'
            )


_KEYS_OF_OUTCOME = {
    "codes": ("codes", "visits", "gap_days", "follow_up_days", "min_later_visits", "washout_days"),
    "readmission": ("follow_up_days", "min_stay_days", "each_visit"),
    "prolonged_stay": ("follow_up_days", "min_stay_days", "each_visit", "threshold_days"),
    "stay_days": ("follow_up_days", "min_stay_days"),
    "next_visit_codes": ("codes", "follow_up_days"),
}
"""The keys that each kind of outcome uses."""

_TASK_KINDS = {"stay_days": TaskKind.REGRESSION, "next_visit_codes": TaskKind.MULTILABEL}


@dataclass(frozen=True)
class OutcomeRule(Settings):
    """An outcome to predict: a column of the cohort table.

    Days count from the index date to the discharge date of a visit with a code, or to the admission of a
    stay.

    Attributes:
        name: Name of the column.
        kind: `codes`, whether a later visit has one of some codes; `readmission`, whether a stay begins
            within `follow_up_days`; `prolonged_stay`, whether the next stay is prolonged; `stay_days`, the
            length of the next stay; `next_visit_codes`, the codes of the next visit.
        codes: Patterns. For `next_visit_codes`, empty for all codes.
        visits: Minimum number of visits with one of the codes in the whole record. Patients with fewer, but
            some, have no label.
        gap_days: Patients with an outcome within this number of days after the index date have no label.
        follow_up_days: Length of the follow-up: the outcome must come within it, and controls must be
            observed for it. None for an outcome at any later time. For the next stay or visit: it must begin
            within it.
        min_later_visits: Minimum number of visits of a control after the gap. Default: 1 without
            `follow_up_days`, else 0.
        washout_days: Length of the window up to the index date in which an outcome removes the label. None
            for all time.
        min_stay_days: Minimum length of a stay in days. 1 excludes visits that start and end on the same day.
        threshold_days: A longer stay is prolonged.
        each_visit: Label every visit of the history, instead of the index date only.
    """

    name: TaskName = LABEL
    kind: Literal["codes", "readmission", "prolonged_stay", "stay_days", "next_visit_codes"] = "codes"
    codes: tuple[Pattern, ...] = ()
    visits: Count = 1
    gap_days: Natural = 0
    follow_up_days: Count | None = None
    min_later_visits: Natural | None = None
    washout_days: Count | None = None
    min_stay_days: Natural = 1
    threshold_days: Natural = PROLONGED_STAY_DAYS
    each_visit: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_without_effect(self, self.kind, _KEYS_OF_OUTCOME[self.kind])
        if self.kind == "codes" and not self.codes:
            raise UserError("missing-setting", "codes is empty. List the codes of the outcome.")
        if self.kind == "readmission" and self.follow_up_days is None:
            raise UserError(
                "missing-setting",
                "follow_up_days is missing. Set the number of days within which a stay is a readmission.",
            )
        if self.follow_up_days is not None and self.follow_up_days <= self.gap_days:
            raise UserError(
                "conflicting-settings",
                f"follow_up_days = {self.follow_up_days} ends within gap_days = {self.gap_days}. Raise "
                "follow_up_days or lower gap_days.",
            )

    @property
    def task_kind(self) -> TaskKind:
        """The kind of prediction task."""
        return TaskKind.VISITS if self.each_visit else _TASK_KINDS.get(self.kind, TaskKind.BINARY)

    @property
    def later_visits(self) -> int:
        """`min_later_visits`, or its default."""
        if self.min_later_visits is None:
            return 1 if self.follow_up_days is None else 0
        return self.min_later_visits

    @property
    def uses_follow_up(self) -> bool:
        """Whether a control must be observed for `follow_up_days`."""
        return self.kind == "readmission" or (self.kind == "codes" and self.follow_up_days is not None)


@dataclass(frozen=True)
class ControlMatching(Settings):
    """Matching of controls to cases, drawn by the seed.

    Attributes:
        controls: Maximum number of controls per case.
        by: Matching variables in addition to the split: `sex`, `age_band` of ten years, `index_year`.
    """

    controls: Count = 1
    by: tuple[Literal["sex", "age_band", "index_year"], ...] = ("sex", "age_band", "index_year")


@dataclass(frozen=True)
class Definition(Settings):
    """The definition of a cohort. Rules are applied in the order of the attributes.

    Attributes:
        title: Title for readers.
        observed_until: Last day on which all living patients are observed. None for the end of observation of
            the source, or else the last discharge.
        population: The population from which patients are selected.
        index: The index date.
        history: Eligibility by the history up to the index date.
        exclude: Exclusions by codes.
        outcomes: The outcomes to predict.
        matching: Matching of controls. None to keep all.

    Example:
        >>> definition = Definition.from_dict(
        ...     {"index": {"kind": "nth_visit", "visit": 2}, "outcomes": [{"codes": ["ICD10_I50*"]}]}
        ... )
        >>> definition.outcomes[0].name
        'label'
    """

    title: str = ""
    observed_until: Day | None = None
    population: Population = Population()
    index: Index = Index()
    history: History = History()
    exclude: tuple[Exclusion, ...] = ()
    outcomes: tuple[OutcomeRule, ...] = ()
    matching: ControlMatching | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [outcome.name.lower() for outcome in self.outcomes]
        if not names:
            raise UserError("missing-setting", "outcomes is empty. Add at least one [[outcomes]].")
        if len(set(names)) < len(names):
            raise UserError(
                "duplicate-name",
                f"outcomes must have different names, not {', '.join(sorted(names))}. Set name in each.",
            )
        if self.index.kind == "first_code" and not (self.index.codes or self.population.codes):
            raise UserError(
                "missing-setting",
                "index.codes and population.codes are both empty. Set one of them, as index.kind = "
                '"first_code" needs it.',
            )
        if not self.population.codes and any(rule.when == "until_population" for rule in self.exclude):
            raise UserError(
                "missing-setting",
                'population.codes is empty. Set it, as exclude.when = "until_population" needs it.',
            )
        if self.index.kind == "before_outcome":
            self._check_before_outcome()
        if self.observed_until and not any(outcome.uses_follow_up for outcome in self.outcomes):
            raise UserError(
                "setting-without-effect",
                "observed_until has no effect, as no outcome needs controls that are observed for "
                "follow_up_days. Remove it, or set follow_up_days.",
            )
        if self.matching and [outcome.task_kind for outcome in self.outcomes] != [TaskKind.BINARY]:
            raise UserError(
                "conflicting-settings",
                "matching needs exactly one outcome, a binary one. Remove matching or other outcomes.",
            )

    def _check_before_outcome(self) -> None:
        outcome = self.outcomes[0]
        if outcome.kind != "codes":
            raise UserError(
                "conflicting-settings",
                'index.kind = "before_outcome" needs a first outcome of kind = "codes", not '
                f'"{outcome.kind}". Change one of them.',
            )
        if outcome.washout_days:
            raise UserError(
                "setting-without-effect",
                'outcomes.1.washout_days has no effect with index.kind = "before_outcome", as the index date '
                "is before the first outcome. Remove it.",
            )

    @classmethod
    def read(cls, name: str) -> "Definition":
        """Read a definition.

        Args:
            name: Path of a `.toml` file, or the name of a shipped definition.

        Raises:
            UserError: The name is unknown (key `unknown-definition`), or the file has an unknown key, a value
                that does not fit, or a setting without effect. The message begins with the path.
        """
        path = Path(name)
        if path.suffix != ".toml":
            path = Path(str(SHIPPED_DEFINITIONS / f"{name}.toml"))
            if not path.exists():
                raise UserError(
                    "unknown-definition",
                    f"{name} is neither a .toml file nor a shipped definition. Choose one of "
                    f"{', '.join(shipped_definitions())}.",
                )
        values = read_toml(path)
        try:
            return cls.from_dict(_days_as_text(values))
        except UserError as error:
            raise error.prefixed(f"{path}: ") from None

    def write(self, path: Path) -> None:
        """Write all settings, defaults included, so that `read` returns an equal definition."""
        path.write_text(toml_text(self.to_dict()), encoding="utf-8")


def shipped_definitions() -> list[str]:
    """Return the names of the definitions that come with the package."""
    names = (entry.name for entry in SHIPPED_DEFINITIONS.iterdir())
    return sorted(Path(name).stem for name in names if name.endswith(".toml"))


def _days_as_text(values: Any) -> Any:
    """Convert dates, which TOML writes without quotes, to text."""
    if isinstance(values, dict):
        return {key: _days_as_text(value) for key, value in values.items()}
    return values.isoformat() if isinstance(values, date) else values
