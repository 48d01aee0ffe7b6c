"""The leakage audit: whether a cohort lets a model see what it is to predict.

What a cohort table says is compared with the diagnosis table by other expressions than those that made it. A
cohort that fails is not written; shortcuts that a model of codes could take are told as warnings.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import ibis
import ibis.expr.types as ir

from ehr_bert.cohorts.definition import Definition, OutcomeRule
from ehr_bert.cohorts.patterns import matching_codes
from ehr_bert.cohorts.recomputed import wrongly_labelled
from ehr_bert.cohorts.record import attached
from ehr_bert.cohorts.source import Source
from ehr_bert.engines import Engine
from ehr_bert.errors import UserError
from ehr_bert.schemas import COHORT, TASK_COLUMNS, ContextKind, TaskKind
from ehr_bert.splits import with_split

_KEY = ("patient_id", "index_date")


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: What should hold.
        ok: Whether it does.
        detail: How many examples break it, or what was measured.
        is_warning: Whether it is for a person to judge: the cohort may stand in spite of it.
    """

    check: str
    ok: bool
    detail: str
    is_warning: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        told = "ok" if self.ok else "WARNING" if self.is_warning else "FAILED"
        return f"{told}: {self.check} ({self.detail})"


def audit(source: Source, cohort: ir.Table, definition: Definition | None, seed: int) -> list[Finding]:
    """Compares a cohort table with the record that it was made of.

    Args:
        source: The diagnosis table.
        cohort: The cohort table, as written.
        definition: What it should be; None where its labels came from elsewhere, which leaves out what only
            a definition tells.
        seed: That of the splits.

    Returns:
        A finding a check.
    """
    events = _events(cohort)
    findings = [_nothing_later(source, cohort, events), one_side_each(source.engine, cohort)]
    findings.append(_sides_kept(source, cohort, seed))
    for name in cohort.columns:
        if name not in COHORT.names and cohort.schema()[name].to_pyarrow() == TASK_COLUMNS[TaskKind.VISITS]:
            findings.append(_one_each_visit(source, cohort, name))
    if definition is None:
        return findings
    until = date.fromisoformat(definition.observed_until) if definition.observed_until else None
    for outcome in definition.outcomes:
        wrong = wrongly_labelled(source, cohort, outcome)
        findings.append(
            _finding(
                f"{outcome.name}: labels are what the record tells of the days after the index date",
                _number(source.engine, wrong.count()),
                "aren't",
            )
        )
        if outcome.task_kind != TaskKind.BINARY:
            continue
        if outcome.kind == "codes":
            findings.append(_no_earlier_outcome(source, cohort, events, outcome))
        if outcome.kind == "codes" or outcome.kind == "readmission":
            findings.append(_followed_up(source, cohort, outcome, until))
    return findings


def refuse_leaks(findings: Sequence[Finding]) -> None:
    """Raises a `UserError` if a check failed that is more than a warning."""
    failed = [finding for finding in findings if not finding.ok and not finding.is_warning]
    if failed:
        told = "; ".join(f"{finding.check}: {finding.detail}" for finding in failed)
        raise UserError(f"the leakage audit fails, and nothing is written: {told}")


def one_side_each(engine: Engine, cohort: ir.Table) -> Finding:
    """No patient is in two splits.

    Args:
        engine: Where to compute.
        cohort: A cohort table.
    """
    sides = cohort.group_by("patient_id").aggregate(sides=cohort.split.nunique())
    twice = _number(engine, sides.filter(sides.sides > 1).count())
    return _finding("no patient is in two splits", twice, "patients are")


def _events(cohort: ir.Table) -> ir.Table:
    """Codes of the histories: `patient_id`, `index_date`, `code` and the `discharge_date` of its visit."""
    # A visit's day and days are looked up for each code; visits count from 1.
    admits = cohort.visit_ids.map(lambda visit: cohort.admit_date[visit - 1])
    stays = cohort.visit_ids.map(lambda visit: cohort.los_days[visit - 1])
    event = cohort.codes.zip(admits, stays).unnest()
    unnested = cohort.select(*_KEY, event=event)
    fields = unnested.event.type().names
    flat = unnested.select(
        *_KEY,
        **{new: unnested.event[old] for new, old in zip(("code", "admit", "days"), fields, strict=True)},
    )
    is_context = ibis.or_(*(flat.code.startswith(kind.prefix) for kind in ContextKind))
    return flat.filter(~is_context).select(
        *_KEY, "code", discharge_date=(flat.admit + flat.days.as_interval("D")).cast("date")
    )


def _nothing_later(source: Source, cohort: ir.Table, events: ir.Table) -> Finding:
    """All that a history holds was recorded up to the index date, at the visit where it stands."""
    recorded = source.rolled_up(source.read.rows).select("patient_id", "discharge_date", "code").distinct()
    late = events.filter(events.discharge_date > events.index_date)
    elsewhere = events.anti_join(recorded, ("patient_id", "discharge_date", "code"))
    told_next = cohort.filter(cohort.days_to_next[cohort.days_to_next.length() - 1] != 0)
    examples = ibis.union(late.select(*_KEY), elsewhere.select(*_KEY), told_next.select(*_KEY), distinct=True)
    leaking = _number(source.engine, examples.count())
    return _finding(
        "histories hold nothing from after the index date", leaking, "hold what wasn't recorded by then"
    )


def _sides_kept(source: Source, cohort: ir.Table, seed: int) -> Finding:
    """Patients are on the side where preprocessing puts them, by the source's splits or by the seed."""
    patients = cohort.select("patient_id", cohort_side="split").distinct()
    expected = with_split(patients, seed, source.diagnoses.splits)
    moved = _number(source.engine, expected.filter(expected.split != expected.cohort_side).count())
    return _finding("splits are those of preprocessing with this seed", moved, "patients are on another side")


def _one_each_visit(source: Source, cohort: ir.Table, task: str) -> Finding:
    """Labels of visits are as many as the visits of the history."""
    # An engine may tell -1 as the length of no list.
    others = cohort.filter(cohort[task].notnull(), cohort[task].length() != cohort.admit_date.length())
    broken = _number(source.engine, others.count())
    return _finding(f"{task}: a label for each visit of the history", broken, "have more or fewer")


def _no_earlier_outcome(source: Source, cohort: ir.Table, events: ir.Table, outcome: OutcomeRule) -> Finding:
    """Nobody with a label has had the outcome, in the record or in the history as it is written."""
    engine = source.engine
    labelled = cohort.filter(cohort[outcome.name].notnull()).select(*_KEY, told=cohort[outcome.name])
    codes = engine.collect(events.select("code").distinct())["code"].to_pylist()
    written = source.rows_of(matching_codes(outcome.codes, codes), events)
    seen = labelled.join(written.select(*_KEY, "discharge_date"), _KEY)
    held = source.rows_of(matching_codes(outcome.codes, source.codes))
    recorded = labelled.join(held.select("patient_id", "discharge_date"), "patient_id")
    both = ibis.union(
        *(each.select(*_KEY, "told", "discharge_date") for each in (seen, recorded)), distinct=False
    )
    days = both.discharge_date.delta(both.index_date, unit="day")
    earlier = days <= 0
    if outcome.washout_days is not None:
        earlier &= days > -outcome.washout_days
    examples = both.filter(earlier).select(*_KEY, "told").distinct()
    counted = engine.collect(examples.aggregate(all=examples.count(), controls=(examples.told == 0).sum()))
    leaking, controls = counted["all"][0].as_py(), counted["controls"][0].as_py() or 0
    return _finding(
        f"no history holds a code of the outcome {outcome.name}",
        leaking,
        f"do, {controls:,} of them without the outcome",
    )


def _followed_up(source: Source, cohort: ir.Table, outcome: OutcomeRule, until: date | None) -> Finding:
    """Who hasn't the outcome was watched for as long as one looks ahead."""
    engine, known = source.engine, source.diagnoses.patients
    controls = cohort.filter(cohort[outcome.name] == 0).select(*_KEY)
    visits = source.read.rows.select("patient_id", "discharge_date").distinct()
    if outcome.follow_up_days is None:
        seen = controls.left_join(visits, "patient_id")
        later = seen.discharge_date.delta(seen.index_date, unit="day") > outcome.gap_days
        counted = seen.group_by(*_KEY).aggregate(later=later.fill_null(False).cast("int64").sum())
        short = _number(engine, counted.filter(counted.later < outcome.later_visits).count())
        return _finding(
            f"{outcome.name}: who hasn't the outcome came back",
            short,
            f"have no {outcome.later_visits} visits",
        )
    # A visit shows that its patient was watched until then, whatever is stated.
    ends = controls.join(visits, "patient_id").select(*_KEY, end="discharge_date")
    if known is not None:
        told = attached(controls, known, "patient_id")
        stated = told.observation_end if until is None else ibis.literal(until)
        end = ibis.ifelse((told.death_date < stated).fill_null(False), told.death_date, stated)
        ends = ibis.union(ends, told.select(*_KEY, end=end))
    elif until is not None:
        ends = ibis.union(ends, controls.mutate(end=ibis.literal(until)))
    watched = ends.group_by(*_KEY).aggregate(end=ends.end.max())
    enough = watched.end.delta(watched.index_date, unit="day") >= outcome.follow_up_days
    short = _number(engine, controls.count()) - _number(engine, watched.filter(enough).count())
    return _finding(
        f"{outcome.name}: who hasn't the outcome was watched for {outcome.follow_up_days} days",
        short,
        "weren't",
    )


def _number(engine: Engine, count: ir.IntegerScalar) -> int:
    return engine.collect(count.as_table())[0][0].as_py()


def _finding(check: str, broken: int, how: str) -> Finding:
    return Finding(check, broken == 0, f"{broken:,} {how}" if broken else "none breaks it")
