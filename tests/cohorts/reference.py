"""A plain implementation of cohorts, patient by patient, to compare the Ibis expressions with."""

from collections import namedtuple
from datetime import date
from fnmatch import fnmatchcase

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ehr_bert.schemas import DIAGNOSES, PATIENTS

Visit = namedtuple("Visit", "discharge admit codes")


def write_extracted(folder, rows, patients=None):
    """Write rows, and `PATIENTS` as dicts, as an extracted folder."""
    (folder / "diagnoses").mkdir(parents=True)
    table = pa.Table.from_pandas(rows, schema=DIAGNOSES, preserve_index=False)
    pq.write_table(table, folder / "diagnoses" / "0.parquet")
    pq.write_table(pa.Table.from_pylist(patients or [], schema=PATIENTS), folder / "patients.parquet")
    return folder


def visits_of(rows: pd.DataFrame) -> dict[str, list[Visit]]:
    """Return the visits of each patient, in order."""
    return {
        patient: [
            Visit(discharge, min(visit["admit_date"]), set(visit["code"]))
            for discharge, visit in group.groupby("discharge_date", sort=True)
        ]
        for patient, group in rows.groupby("patient_id")
    }


def reference_labels(rows, definition, patients=()):
    """Return the labels of a definition by patient and index date, before matching."""
    known = {patient["patient_id"]: patient for patient in patients}
    examples = {}
    for patient, visits in visits_of(rows).items():
        facts = known.get(patient, {})
        joined = _joined(visits, definition.population)
        for index in _indices(visits, definition, joined):
            if not _is_eligible(visits, facts, definition, joined, index):
                continue
            until = _observed_until(visits, facts, definition)
            labels = {
                outcome.name: _visit_labels(visits, outcome, index, until)
                if outcome.each_visit
                else _label(visits, outcome, index, until)
                for outcome in definition.outcomes
            }
            if any(label is not None for label in labels.values()):
                examples[patient, index] = labels
    return examples


def has_code(visit, patterns):
    return any(fnmatchcase(code, pattern) for code in visit.codes for pattern in patterns)


def _observed_until(visits, facts, definition):
    last = visits[-1].discharge
    stated = facts.get("observation_end")
    if definition.observed_until:
        stated = date.fromisoformat(definition.observed_until)
    until = max(last, stated or last)
    return min(until, facts.get("death_date") or until)


def _joined(visits, population):
    """Return the first visit with the population's codes and the day on which the rule is met, or None."""
    if not population.codes:
        return None
    days = [visit.discharge for visit in visits if has_code(visit, population.codes)]
    for place in range(population.visits - 1, len(days)):
        since = days[place - population.visits + 1]
        if population.within_days is None or (days[place] - since).days <= population.within_days:
            return days[0], days[place]
    return None


def _indices(visits, definition, joined):
    index = definition.index
    stays = [visit for visit in visits if (visit.discharge - visit.admit).days >= index.min_stay_days]
    if index.kind == "first_code" and not index.codes:
        return [joined[1]] if joined else []
    if index.kind == "first_code":
        return [visit.discharge for visit in visits if has_code(visit, index.codes)][:1]
    if index.kind == "nth_visit":
        return [visit.discharge for visit in stays][index.visit - 1 : index.visit]
    if index.kind == "date":
        return [date.fromisoformat(index.date)]
    if index.kind == "each_discharge":
        return [visit.discharge for visit in stays]
    outcome = definition.outcomes[0]
    onset = [visit.discharge for visit in visits if has_code(visit, outcome.codes)]
    event = onset[0] if onset else visits[-1].discharge
    return [visit.discharge for visit in visits if (event - visit.discharge).days > outcome.gap_days][-1:]


def _is_eligible(visits, facts, definition, joined, index):
    past = [visit for visit in visits if visit.discharge <= index]
    history = definition.history
    born, died = facts.get("birth_date"), facts.get("death_date")
    age = (
        None if born is None else index.year - born.year - ((index.month, index.day) < (born.month, born.day))
    )
    if definition.population.codes and (joined is None or joined[1] > index):
        return False
    if died is not None and died <= index:
        return False
    if len(past) < history.min_visits or (index - min(visit.admit for visit in past)).days < history.min_days:
        return False
    if history.min_age is not None and (age is None or age < history.min_age):
        return False
    if history.max_age is not None and (age is None or age > history.max_age):
        return False
    return not any(_excludes(visits, rule, joined, index) for rule in definition.exclude)


def _excludes(visits, rule, joined, index):
    days = [visit.discharge for visit in visits if has_code(visit, rule.codes)]
    if rule.when == "ever":
        return bool(days)
    end = index if rule.when == "until_index" else joined[0]
    return any(
        (day - end).days <= rule.margin_days
        and (rule.washout_days is None or (day - end).days > -rule.washout_days)
        for day in days
    )


def _label(visits, outcome, index, until):
    days_observed = (until - index).days
    if outcome.kind == "codes":
        return _code_label(visits, outcome, index, days_observed)
    least = 0 if outcome.kind == "next_visit_codes" else outcome.min_stay_days
    later = [
        visit for visit in visits if visit.discharge > index and (visit.discharge - visit.admit).days >= least
    ]
    later.sort(key=lambda visit: visit.admit)
    days = (later[0].admit - index).days if later else None
    limit = outcome.follow_up_days
    if outcome.kind == "readmission":
        if days is None:
            return 0 if days_observed >= limit else None
        return None if days < 0 else int(days <= limit)
    if days is None or days < 0 or (limit is not None and days > limit):
        return None
    stay = (later[0].discharge - later[0].admit).days
    if outcome.kind == "next_visit_codes":
        patterns = outcome.codes or ("*",)
        return sorted(
            code for code in later[0].codes if any(fnmatchcase(code, pattern) for pattern in patterns)
        )
    return int(stay > outcome.threshold_days) if outcome.kind == "prolonged_stay" else float(stay)


def _code_label(visits, outcome, index, days_observed):
    days = [(visit.discharge - index).days for visit in visits if has_code(visit, outcome.codes)]
    later = [day for day in days if day > 0]
    if any(day <= 0 and (outcome.washout_days is None or day > -outcome.washout_days) for day in days):
        return None
    if later and later[0] <= outcome.gap_days:
        return None
    if 0 < len(days) < outcome.visits:
        return None
    if later and (outcome.follow_up_days is None or later[0] <= outcome.follow_up_days):
        return 1
    if outcome.follow_up_days is not None and days_observed < outcome.follow_up_days:
        return None
    after_gap = [visit for visit in visits if (visit.discharge - index).days > outcome.gap_days]
    return 0 if len(after_gap) >= outcome.later_visits else None


def _visit_labels(visits, outcome, index, until):
    labels = [_label(visits, outcome, visit.discharge, until) for visit in visits if visit.discharge <= index]
    return labels if any(label is not None for label in labels) else None
