"""Any table of diagnoses, its columns named in a small TOML file."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from ehr_bert.codes import CodeSystem
from ehr_bert.codes.naming import system_named
from ehr_bert.errors import UserError
from ehr_bert.schemas import PATIENTS
from ehr_bert.sources.checks import ORDERING
from ehr_bert.sources.store import Names, Store, diagnosis_rows
from ehr_bert.sources.tables import Tables, whole

_DATES = ("admit_date", "discharge_date")
_ORDER = ("visit_index", "los_days")
_LIFE = ("birth_date", "sex", "death_date")
_COLUMNS = ("patient_id", "code", *_DATES, *_ORDER, "system", *ORDERING, *_LIFE)


@dataclass(frozen=True)
class Calendar:
    """Days for visits of which only the order and the length are known.

    Attributes:
        start_date: The first admission of every patient.
        gap_days: From each discharge to the next admission.
    """

    start_date: date
    gap_days: int = 30


@dataclass(frozen=True)
class TableMapping:
    """What a mapping file says.

    Attributes:
        columns: By our name the table's, in lower case.
        table: The table's name, where the source has several.
        system: The system of all codes. With neither it nor a column codes are taken as they stand.
        systems: By what the system column says, which system that is.
        calendar: What gives visits their days, where there are no dates.
    """

    columns: dict[str, str]
    table: str | None = None
    system: CodeSystem | None = None
    systems: dict[str, CodeSystem] = field(default_factory=dict)
    calendar: Calendar | None = None

    @classmethod
    def read(cls, path: Path) -> "TableMapping":
        """Reads a mapping file; `docs/stores.md` tells its form.

        Raises:
            UserError: the file can't be read, or has a key too many, too few, or of another type.
        """
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UserError(f"{path} can't be read as TOML: {error}") from error
        _check_keys(path, "", given, ("table", "system", "columns", "systems", "calendar"))
        columns = _section(path, given, "columns", str)
        _check_keys(path, "columns.", columns, _COLUMNS)
        systems = _section(path, given, "systems", str)
        calendar = _section(path, given, "calendar", (date, int))
        _check_keys(path, "calendar.", calendar, ("start_date", "gap_days"))
        needed = ("patient_id", "code", *(_ORDER if calendar else _DATES))
        missing = [name for name in needed if name not in columns]
        if missing:
            raise UserError(
                f"{path}: [columns] lacks {', '.join(missing)}: a table has {', '.join(_DATES)}, "
                f"or {', '.join(_ORDER)} and a [calendar]"
            )
        if calendar and not isinstance(calendar.get("start_date"), date):
            raise UserError(f"{path}: [calendar] lacks start_date, such as 2000-01-01 without quotes")
        return cls(
            columns={name: column.lower() for name, column in columns.items()},
            table=given.get("table"),
            system=_system(path, given["system"]) if "system" in given else None,
            systems={name: _system(path, system) for name, system in systems.items()},
            calendar=Calendar(**calendar) if calendar else None,
        )


def read_mapped(tables: Tables, mapping: TableMapping) -> Store:
    """Reads a diagnosis table as `mapping` says.

    Raises:
        UserError: a column lacks.
    """
    name = (mapping.table or tables.only).lower()
    raw = tables.read(name, dict.fromkeys(mapping.columns.values()))
    ours = {to: raw[column] for to, column in mapping.columns.items()}
    fields = {to: ours[to] for to in ("patient_id", "code", *ORDERING) if to in ours}
    visits = None
    if mapping.calendar:
        visit_id = _visit_id(ours["patient_id"], ours["visit_index"])
        visits = _dated_visits(raw, ours, mapping.calendar)
        fields["visit_id"] = visit_id
    else:
        fields |= {to: ours[to] for to in _DATES}
    patients = None
    if any(to in ours for to in _LIFE):
        patients = raw.select(**{to: ours.get(to, ibis.null("string")) for to in PATIENTS.names})

    def place(to: str) -> str:
        return f"{name}.{mapping.columns[to]}"

    admit, discharge = ("visit_index", "los_days") if mapping.calendar else _DATES
    return Store(
        names=Names(place("code"), place("patient_id"), place(admit), place(admit), place(discharge)),
        diagnoses=diagnosis_rows(
            raw,
            record=[mapping.columns["code"]],
            **fields,
            **_coding(ours, mapping),
        ),
        visits=visits,
        patients=patients,
    )


def _coding(ours: Mapping[str, ir.StringValue], mapping: TableMapping) -> dict[str, ir.StringValue]:
    if mapping.system:
        return {"system": ibis.literal(mapping.system.value)}
    if "system" not in ours:
        return {"final_code": ours["code"]}
    said = ours["system"]
    named = [(said == name, system.value) for name, system in mapping.systems.items()]
    system = ibis.cases(*named, else_=system_named(said)) if named else system_named(said)
    return {"system": system, "system_name": said}


def _visit_id(patient_id: ir.StringValue, visit_index: ir.StringValue) -> ir.StringValue:
    return patient_id + " " + whole(visit_index)


def _dated_visits(raw: ir.Table, ours: Mapping[str, ir.StringValue], calendar: Calendar) -> ir.Table:
    """A row a visit, each `gap_days` after the one before it."""
    visits = raw.select(
        patient_id=ours["patient_id"],
        visit_id=_visit_id(ours["patient_id"], ours["visit_index"]),
        visit_index=ours["visit_index"].try_cast("float64"),
        los_days=whole(ours["los_days"]).try_cast("int32"),
    ).distinct()
    visits = visits.filter(visits.visit_index.notnull())
    before = ibis.window(
        group_by=visits.patient_id,
        order_by=[visits.visit_index, visits.los_days],
        preceding=(None, 1),
    )
    days_before = (visits.los_days + calendar.gap_days).sum().over(before).fill_null(0).cast("int32")
    admit = ibis.literal(calendar.start_date) + days_before.as_interval("D")
    dated = visits.mutate(admit=admit)
    return dated.select(
        "visit_id",
        "patient_id",
        admit_date=_text_of_day(dated.admit),
        discharge_date=_text_of_day(dated.admit + dated.los_days.as_interval("D")),
    )


def _text_of_day(day: ir.DateValue) -> ir.StringValue:
    """`YYYY-MM-DD`, on DuckDB too, where a date and an interval make a time."""
    return day.cast("string").substr(0, 10)


def _section(path: Path, given: Mapping[str, Any], name: str, kinds: Any) -> dict[str, Any]:
    section = given.get(name, {})
    if not isinstance(section, dict) or not all(isinstance(value, kinds) for value in section.values()):
        raise UserError(f"{path}: [{name}] must be a section of `name = value` lines, texts in quotes")
    return section


def _check_keys(path: Path, section: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            mend = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UserError(f"{path}: {section}{key} is unknown: {mend}")


def _system(path: Path, name: Any) -> CodeSystem:
    try:
        return CodeSystem(name)
    except ValueError:
        raise UserError(f"{path}: no system {name}: there are {', '.join(CodeSystem)}") from None
