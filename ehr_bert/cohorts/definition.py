"""What a cohort is: one TOML file, each table of it a class below. `docs/cohorts.md` tells every key."""

from dataclasses import dataclass, fields
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from ehr_bert.cohorts.patterns import is_no_falling_range
from ehr_bert.errors import UserError
from ehr_bert.schemas import COHORT, LABEL, PROLONGED_STAY_DAYS, TaskKind
from ehr_bert.settings import Count, Natural, Settings, ValueRule
from ehr_bert.toml import read_toml, toml_text

READY = files("ehr_bert.cohorts") / "definitions"
"""The ready definitions, `<name>.toml` each."""


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def is_task_name(name: str) -> bool:
    """Whether a column of a cohort table may be called so beside those that each has; engines ignore case."""
    return name.isidentifier() and name.lower() not in COHORT.names


TaskName = Annotated[str, ValueRule(is_task_name, "a word that is no other column of a cohort table")]
Pattern = Annotated[
    str, ValueRule(is_no_falling_range, "a code, a pattern, or a range from the lower to the higher code")
]
Day = Annotated[str, ValueRule(_is_day, "such as 2015-01-01")]


@dataclass(frozen=True)
class Population(Settings):
    """Patients who are looked at: those with enough visits that hold one of some codes.

    They qualify on the discharge of the last of these visits, and have no index date before it.

    Attributes:
        codes: Patterns; without any, everyone.
        visits: Visits that hold one, at least.
        within_days: Days from the first to the last of these visits at most; any if not stated.
    """

    codes: tuple[Pattern, ...] = ()
    visits: Count = 1
    within_days: Count | None = None


@dataclass(frozen=True)
class Index(Settings):
    """The day from which one looks ahead: nothing after it is in a history.

    Attributes:
        kind: `first_code`, the discharge of the first visit with one of `codes`, or without codes the day on
            which the patient joins the population; `nth_visit`; `date`, the same for all; `each_discharge`,
            so that a patient has several; `before_outcome`, the last discharge before the outcome, or for
            who has none before the last visit.
        codes: Patterns, for `first_code`.
        visit: Which visit, from 1, for `nth_visit`.
        date: For `date`.
        min_stay_days: Visits of fewer days don't count for `nth_visit` and `each_discharge`; 1 leaves out
            those that end on the day on which they begin.
        max_per_patient: Of `each_discharge`, so many index dates of a patient at most, drawn by a hash; all
            if not stated. Each repeats the history before it, so the table grows with the square of visits.
    """

    kind: Literal["first_code", "nth_visit", "date", "each_discharge", "before_outcome"] = "first_code"
    codes: tuple[Pattern, ...] = ()
    visit: Count = 1
    date: Day | None = None
    min_stay_days: Natural = 0
    max_per_patient: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.kind == "date") != (self.date is not None):
            raise UserError('date and kind = "date" need each other: state both or neither')
        if self.max_per_patient and self.kind != "each_discharge":
            raise UserError('max_per_patient is for kind = "each_discharge"')


@dataclass(frozen=True)
class History(Settings):
    """What must be known at the index date.

    Attributes:
        min_visits: Visits up to it, at least.
        min_days: Days from the first admission to it, at least.
        min_age: Completed years, at least.
        max_age: Completed years, at most.
    """

    min_visits: Count = 1
    min_days: Natural = 0
    min_age: Natural | None = None
    max_age: Natural | None = None


@dataclass(frozen=True)
class Exclusion(Settings):
    """Codes that rule a patient out.

    Attributes:
        codes: Patterns.
        when: `until_index`; `until_population`, until the first visit with a code of the population; `ever`,
            which looks at what comes after the index date too.
        washout_days: Only the last so many days until then count; all if not stated.
        margin_days: For `until_population`, so many days after it count too.
    """

    codes: tuple[Pattern, ...] = ()
    when: Literal["until_index", "until_population", "ever"] = "until_index"
    washout_days: Count | None = None
    margin_days: Natural = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.codes:
            raise UserError("codes is empty: name the codes that rule a patient out")
        if self.margin_days and self.when != "until_population":
            raise UserError('margin_days is for when = "until_population"')
        if self.washout_days and self.when == "ever":
            raise UserError('washout_days counts back from a day, and when = "ever" has none')


_OF_KIND = {
    "codes": ("codes", "visits", "gap_days", "follow_up_days", "min_later_visits", "washout_days"),
    "readmission": ("follow_up_days", "min_stay_days", "each_visit"),
    "prolonged_stay": ("follow_up_days", "min_stay_days", "each_visit", "threshold_days"),
    "stay_days": ("follow_up_days", "min_stay_days"),
    "next_visit_codes": ("codes", "follow_up_days"),
}
"""By kind of outcome, the keys that are for it."""

_TASK_KINDS = {"stay_days": TaskKind.REGRESSION, "next_visit_codes": TaskKind.MULTILABEL}


@dataclass(frozen=True)
class OutcomeRule(Settings):
    """What is predicted: a column of the cohort table.

    Days count from the index date: to the discharge of a visit with a code, to the admission of a stay.

    Attributes:
        name: The column's.
        kind: `codes`, whether a visit with one of some codes comes; `readmission`, whether a stay begins
            within `follow_up_days`; of the next stay, whether it is prolonged (`prolonged_stay`) or its days
            (`stay_days`); `next_visit_codes`, which codes the next visit has.
        codes: Patterns; for `next_visit_codes` without any, all codes.
        visits: Visits of the whole record that hold one of the codes, at least; who has fewer is left out.
        gap_days: An outcome within so many days after the index date leaves the patient out.
        follow_up_days: The outcome comes within so many days, and who hasn't it is watched that long; if not
            stated, it comes at any time. For the next stay or visit: it begins so early.
        min_later_visits: Visits after the gap that who hasn't the outcome has, at least; if not stated, 1
            without `follow_up_days`, else 0.
        washout_days: Who had the outcome in the last so many days until the index date is left out; who had
            it ever, if not stated.
        min_stay_days: Visits of fewer days are no stay; 1 leaves out those that end on the day on which they
            begin.
        threshold_days: A stay of more days is prolonged.
        each_visit: The question is asked at every visit of the history, not at the index date alone.
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
        stated = [key.name for key in fields(self)[2:] if getattr(self, key.name) != key.default]
        for key in stated:
            if key not in _OF_KIND[self.kind]:
                known = ", ".join(_OF_KIND[self.kind])
                raise UserError(f'{key} is not for kind = "{self.kind}", which takes {known}')
        if self.kind == "codes" and not self.codes:
            raise UserError("codes is empty: name the codes of the outcome")
        if self.kind == "readmission" and self.follow_up_days is None:
            raise UserError("follow_up_days is not stated: within how many days is a stay a readmission?")
        if self.follow_up_days is not None and self.follow_up_days <= self.gap_days:
            raise UserError(f"follow_up_days {self.follow_up_days} ends inside gap_days {self.gap_days}")

    @property
    def task_kind(self) -> TaskKind:
        """What predicting it is."""
        return TaskKind.VISITS if self.each_visit else _TASK_KINDS.get(self.kind, TaskKind.BINARY)

    @property
    def later_visits(self) -> int:
        """`min_later_visits`, or its default."""
        if self.min_later_visits is None:
            return 1 if self.follow_up_days is None else 0
        return self.min_later_visits


@dataclass(frozen=True)
class ControlMatching(Settings):
    """Fewer controls: so many for each case among patients who are alike, drawn by the seed.

    Attributes:
        controls: For each case, at most.
        by: In what they are alike, beside the split: `sex`, `age_band` of ten years, `index_year`.
    """

    controls: Count = 1
    by: tuple[str, ...] = ("sex", "age_band", "index_year")

    def __post_init__(self) -> None:
        super().__post_init__()
        strange = set(self.by) - {"sex", "age_band", "index_year"}
        if strange:
            raise UserError(f"by names {', '.join(sorted(strange))}: there are sex, age_band and index_year")


@dataclass(frozen=True)
class Definition(Settings):
    """A cohort. Rules are applied in the order of the attributes.

    Attributes:
        title: What it is, for people.
        observed_until: Everyone is watched until this day or death; if not stated, until the end of
            observation that the source tells, or the last discharge.
        population: Who is looked at.
        index: From which day on.
        history: What must be known then.
        exclude: Who is ruled out.
        outcomes: What is predicted.
        matching: Which controls are kept; all if not stated.
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
            raise UserError("outcomes is empty: a cohort has one [[outcomes]] at least")
        if len(set(names)) < len(names):
            raise UserError(f"two outcomes are called {', '.join(sorted(names))}: give each a name")
        if self.index.kind == "first_code" and not (self.index.codes or self.population.codes):
            raise UserError("index.codes and population.codes are both empty: first code of which?")
        if self.index.kind == "before_outcome" and self.outcomes[0].kind != "codes":
            raise UserError('index.kind = "before_outcome" needs a first outcome of kind = "codes"')
        if not self.population.codes and any(rule.when == "until_population" for rule in self.exclude):
            raise UserError('when = "until_population" needs population.codes')
        if self.matching and [outcome.task_kind for outcome in self.outcomes] != [TaskKind.BINARY]:
            raise UserError("matching needs one outcome, of 0 and 1: leave it out, or the others")

    @classmethod
    def read(cls, name: str) -> "Definition":
        """Reads a file, or a ready definition by its name.

        Raises:
            UserError: there is neither, a key is unknown, or a value doesn't fit.
        """
        path = Path(name)
        if path.suffix != ".toml":
            path = Path(str(READY / f"{name}.toml"))
            if not path.exists():
                raise UserError(
                    f"{name} is neither a .toml file nor a ready definition: there are {', '.join(ready())}"
                )
        values = read_toml(path)
        try:
            return cls.from_dict(_days_as_texts(values))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def write(self, path: Path) -> None:
        """Writes all that is stated and all defaults, so that `read` gives it back."""
        path.write_text(toml_text(self.to_dict()), encoding="utf-8")


def ready() -> list[str]:
    """The names of the ready definitions."""
    return sorted(Path(entry.name).stem for entry in READY.iterdir() if entry.name.endswith(".toml"))


def _days_as_texts(values: Any) -> Any:
    """TOML's own dates may stand without quotes."""
    if isinstance(values, dict):
        return {key: _days_as_texts(value) for key, value in values.items()}
    return values.isoformat() if isinstance(values, date) else values
