"""The leakage audit: checks that a cohort does not reveal to a model what it must predict.

The audit compares the cohort table with the diagnosis table, with other expressions than those that built the
cohort. A cohort that fails a check is not written. Shortcuts that a model could learn are reported as
warnings.

To add a check, add one `AuditCheck` to `COHORT_CHECKS` or `TASK_CHECKS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Generic, TypeVar

import ibis
import ibis.expr.types as ir

from ehr_bert.cohorts.cohort import Cohort
from ehr_bert.cohorts.definition import Definition, OutcomeRule
from ehr_bert.cohorts.findings import AuditLevel, Finding, Violations, violation_count
from ehr_bert.cohorts.patterns import matching_codes
from ehr_bert.cohorts.recomputed import mislabelled
from ehr_bert.cohorts.record import add_columns
from ehr_bert.cohorts.shortcuts import code_shortcut, structure_shortcut, training_sample
from ehr_bert.cohorts.source import Source
from ehr_bert.cohorts.task_columns import kind_of_column
from ehr_bert.engines import Engine
from ehr_bert.errors import UserError
from ehr_bert.schemas import COHORT, ContextKind, TaskKind
from ehr_bert.splits import with_split

_KEY = ("patient_id", "index_date")


@dataclass(frozen=True)
class AuditedCohort:
    """A cohort to audit.

    Attributes:
        engine: Engine that stores the tables.
        table: The cohort table, as written.
        source: The diagnosis table it was built from. None for pickles, which skips the checks that need it.
        definition: The definition. None for labels from a file, which skips the checks that need it.
        seed: Seed of the splits.
    """

    engine: Engine
    table: ir.Table
    source: Source | None = None
    definition: Definition | None = None
    seed: int = 0

    @property
    def required_source(self) -> Source:
        """`source`, for checks that only apply to cohorts that have one."""
        assert self.source is not None
        return self.source

    @property
    def tasks(self) -> list["AuditedTask"]:
        """The tasks, in the order of the table's columns."""
        schema = self.table.schema()
        rules = {rule.name: rule for rule in self.definition.outcomes} if self.definition else {}
        return [
            AuditedTask(self, name, kind_of_column(schema[name].to_pyarrow()), rules.get(name))
            for name in self.table.columns
            if name not in COHORT.names
        ]

    @cached_property
    def events(self) -> ir.Table:
        """Codes of the histories: `patient_id`, `index_date`, `code`, and `discharge_date` of the visit."""
        # Each code looks up the days of its visit; visits count from 1.
        admits = self.table.visit_ids.map(lambda visit: self.table.admit_date[visit - 1])
        stays = self.table.visit_ids.map(lambda visit: self.table.los_days[visit - 1])
        event = self.table.codes.zip(admits, stays).unnest()
        unnested = self.table.select(*_KEY, event=event)
        fields = unnested.event.type().names
        flat = unnested.select(
            *_KEY,
            **{new: unnested.event[old] for new, old in zip(("code", "admit", "days"), fields, strict=True)},
        )
        is_context = ibis.or_(*(flat.code.startswith(kind.prefix) for kind in ContextKind))
        return flat.filter(~is_context).select(
            *_KEY, "code", discharge_date=(flat.admit + flat.days.as_interval("D")).cast("date")
        )

    @cached_property
    def training(self) -> Cohort:
        """A sample of the training examples, in memory."""
        return training_sample(self.engine, self.table)

    def count(self, rows: ir.Table) -> int:
        """Return the number of rows."""
        return self.engine.collect(rows.count().as_table())[0][0].as_py()


@dataclass(frozen=True)
class AuditedTask:
    """A task of a cohort to audit.

    Attributes:
        cohort: The cohort.
        name: Name of the task's column.
        kind: Name of the task type.
        rule: The outcome in the cohort's definition, None without a definition.
    """

    cohort: AuditedCohort
    name: str
    kind: str | None
    rule: OutcomeRule | None

    @property
    def outcome(self) -> OutcomeRule:
        """`rule`, for checks that only apply to tasks that have one."""
        assert self.rule is not None
        return self.rule


Subject = TypeVar("Subject", AuditedCohort, AuditedTask)


@dataclass(frozen=True)
class AuditCheck(Generic[Subject]):
    """A check of the leakage audit.

    Attributes:
        id: Stable identifier, in lower case with hyphens.
        statement: The condition that must hold, as text or as a function of the audited cohort or task.
        violations: Counts the violations of a cohort or task.
        applies: Returns whether the check applies to a cohort or task.
        severity: Level of a violation: `FAIL`, or `WARN` if a person must judge it.
    """

    id: str
    statement: str | Callable[[Subject], str]
    violations: Callable[[Subject], Violations]
    applies: Callable[[Subject], bool]
    severity: AuditLevel = AuditLevel.FAIL

    def __call__(self, subject: Subject) -> Finding:
        """Run the check."""
        statement = self.statement if isinstance(self.statement, str) else self.statement(subject)
        count, detail = self.violations(subject)
        detail = detail or violation_count(count)
        task = subject.name if isinstance(subject, AuditedTask) else None
        return Finding(self.id, statement, count, detail, self.severity, task)


def audit(cohort: AuditedCohort) -> list[Finding]:
    """Run all checks that apply to a cohort and its tasks.

    Returns:
        One finding per check, and for the checks of tasks one per task.
    """
    findings = [check(cohort) for check in COHORT_CHECKS if check.applies(cohort)]
    return findings + [check(task) for task in cohort.tasks for check in TASK_CHECKS if check.applies(task)]


def refuse_leaks(findings: Sequence[Finding]) -> None:
    """Refuse a cohort that fails a check.

    Raises:
        UserError: A finding has the level `FAIL` (key `leakage-audit-failed`). The message lists all of them.
    """
    failures = [str(finding) for finding in findings if finding.level == AuditLevel.FAIL]
    if failures:
        raise UserError(
            "leakage-audit-failed",
            f"the leakage audit failed, and nothing was written: {'; '.join(failures)}. docs/cohorts.md "
            "describes each check.",
        )


def _future_events(cohort: AuditedCohort) -> Violations:
    source, table, events = cohort.required_source, cohort.table, cohort.events
    recorded = source.roll_up(source.usable.rows).select("patient_id", "discharge_date", "code").distinct()
    late = events.filter(events.discharge_date > events.index_date)
    unrecorded = events.anti_join(recorded, ("patient_id", "discharge_date", "code"))
    next_visit = table.filter(table.days_to_next[table.days_to_next.length() - 1] != 0)
    examples = (rows.select(*_KEY) for rows in (late, unrecorded, next_visit))
    return Violations(cohort.count(ibis.union(*examples, distinct=True)))


def _patients_in_two_splits(cohort: AuditedCohort) -> Violations:
    patients = cohort.table.group_by("patient_id").aggregate(splits=cohort.table.split.nunique())
    return Violations(cohort.count(patients.filter(patients.splits > 1)))


def _patients_in_another_split(cohort: AuditedCohort) -> Violations:
    patients = cohort.table.select("patient_id", cohort_split="split").distinct()
    expected = with_split(patients, cohort.seed, cohort.required_source.events.splits)
    return Violations(cohort.count(expected.filter(expected.split != expected.cohort_split)))


def _wrong_label_list_lengths(task: AuditedTask) -> Violations:
    table = task.cohort.table
    labels = table[task.name]
    # The null check comes first, as an engine may return -1 as the length of null.
    return Violations(
        task.cohort.count(table.filter(labels.notnull(), labels.length() != table.admit_date.length()))
    )


def _wrong_labels(task: AuditedTask) -> Violations:
    cohort = task.cohort
    return Violations(cohort.count(mislabelled(cohort.required_source, cohort.table, task.outcome)))


def _earlier_outcomes(task: AuditedTask) -> Violations:
    cohort, outcome = task.cohort, task.outcome
    engine, source, table = cohort.engine, cohort.required_source, cohort.table
    labelled = table.filter(table[task.name].notnull()).select(*_KEY, label=table[task.name])
    codes = engine.collect(cohort.events.select("code").distinct())["code"].to_pylist()
    in_history = source.rows_of(matching_codes(outcome.codes, codes), cohort.events)
    in_record = source.rows_of(matching_codes(outcome.codes, source.codes))
    outcomes = ibis.union(
        *(
            rows.select(*_KEY, "label", "discharge_date")
            for rows in (
                labelled.join(in_history.select(*_KEY, "discharge_date"), _KEY),
                labelled.join(in_record.select("patient_id", "discharge_date"), "patient_id"),
            )
        ),
        distinct=False,
    )
    days = outcomes.discharge_date.delta(outcomes.index_date, unit="day")
    is_earlier = days <= 0
    if outcome.washout_days is not None:
        is_earlier &= days > -outcome.washout_days
    examples = outcomes.filter(is_earlier).select(*_KEY, "label").distinct()
    counts = engine.collect(examples.aggregate(all=examples.count(), controls=(examples.label == 0).sum()))
    count, controls = counts["all"][0].as_py(), counts["controls"][0].as_py() or 0
    return Violations(count, f"{violation_count(count)}, {controls:,} in controls" if count else "")


def _controls_without_follow_up(task: AuditedTask) -> Violations:
    cohort, outcome = task.cohort, task.outcome
    source, patients = cohort.required_source, cohort.required_source.events.patients
    controls = cohort.table.filter(cohort.table[task.name] == 0).select(*_KEY)
    visits = source.usable.rows.select("patient_id", "discharge_date").distinct()
    if outcome.follow_up_days is None:
        joined = controls.left_join(visits, "patient_id")
        is_later = joined.discharge_date.delta(joined.index_date, unit="day") > outcome.gap_days
        later = joined.group_by(*_KEY).aggregate(visits=is_later.fill_null(False).cast("int64").sum())
        return Violations(cohort.count(later.filter(later.visits < outcome.later_visits)))
    # A visit shows that its patient was observed until then, whatever the source states.
    ends = controls.join(visits, "patient_id").select(*_KEY, end="discharge_date")
    definition = cohort.definition
    until = (
        date.fromisoformat(definition.observed_until) if definition and definition.observed_until else None
    )
    if patients is not None:
        facts = add_columns(controls, patients, "patient_id")
        stated = facts.observation_end if until is None else ibis.literal(until)
        end = ibis.ifelse((facts.death_date < stated).fill_null(False), facts.death_date, stated)
        ends = ibis.union(ends, facts.select(*_KEY, end=end))
    elif until is not None:
        ends = ibis.union(ends, controls.mutate(end=ibis.literal(until)))
    observed = ends.group_by(*_KEY).aggregate(end=ends.end.max())
    is_enough = observed.end.delta(observed.index_date, unit="day") >= outcome.follow_up_days
    return Violations(cohort.count(controls) - cohort.count(observed.filter(is_enough)))


def _follow_up_statement(task: AuditedTask) -> str:
    days, visits = task.outcome.follow_up_days, task.outcome.later_visits
    if days is not None:
        return f"every control is observed for {days} days"
    return "every control has a later visit" if visits == 1 else f"every control has {visits} later visits"


def _always(cohort: AuditedCohort) -> bool:
    return True


def _has_record(cohort: AuditedCohort) -> bool:
    return cohort.source is not None


def _is_binary(task: AuditedTask) -> bool:
    return task.kind == TaskKind.BINARY


def _is_binary_of_kind(*kinds: str) -> Callable[[AuditedTask], bool]:
    return lambda task: _is_binary(task) and task.rule is not None and task.rule.kind in kinds


COHORT_CHECKS: tuple[AuditCheck[AuditedCohort], ...] = (
    AuditCheck(
        "no-future-events",
        "every history contains only what was recorded up to the index date",
        _future_events,
        _has_record,
    ),
    AuditCheck(
        "one-split-per-patient", "every patient is in one split only", _patients_in_two_splits, _always
    ),
    AuditCheck(
        "splits-as-in-preprocessing",
        "every patient is in the split of preprocessing with this seed",
        _patients_in_another_split,
        _has_record,
    ),
)
"""Checks of a whole cohort."""

TASK_CHECKS: tuple[AuditCheck[AuditedTask], ...] = (
    AuditCheck(
        "one-label-per-visit",
        "every list of labels has one label per visit of the history",
        _wrong_label_list_lengths,
        lambda task: task.kind == TaskKind.VISITS,
    ),
    AuditCheck(
        "labels-match-record",
        "every label agrees with the record after the index date",
        _wrong_labels,
        lambda task: task.rule is not None,
    ),
    AuditCheck(
        "no-earlier-outcome",
        "no labelled patient had the outcome up to the index date",
        _earlier_outcomes,
        _is_binary_of_kind("codes"),
    ),
    AuditCheck(
        "control-follow-up",
        _follow_up_statement,
        _controls_without_follow_up,
        _is_binary_of_kind("codes", "readmission"),
    ),
    AuditCheck(
        "structure-shortcut",
        "counts of codes, visits and days do not predict the outcome",
        lambda task: structure_shortcut(task.name, task.cohort.training),
        _is_binary,
        AuditLevel.WARN,
    ),
    AuditCheck(
        "code-shortcut",
        "codes do not predict the outcome implausibly well",
        lambda task: code_shortcut(task.name, task.cohort.training),
        _is_binary,
        AuditLevel.WARN,
    ),
)
"""Checks of one task."""
