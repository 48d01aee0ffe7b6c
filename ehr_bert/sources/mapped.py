"""Reader of any table of diagnoses, whose columns a small TOML file names."""

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
from ehr_bert.sources.records import ColumnNames, StoreRecords, diagnosis_rows
from ehr_bert.sources.store import Store, StoreOption
from ehr_bert.sources.tables import RawTables, without_decimals
from ehr_bert.toml import read_toml

_DATES = ("admit_date", "discharge_date")
_VISIT_ORDER = ("visit_index", "los_days")
_OWN = ("date", "time")
_PERSONAL = ("birth_date", "sex", "death_date")
_COLUMNS = ("patient_id", "code", *_DATES, *_VISIT_ORDER, *_OWN, "system", *ORDERING, *_PERSONAL)


@dataclass(frozen=True)
class Calendar:
    """Constructed days for visits of which only the order and the length of stay are known.

    Attributes:
        start_date: First admission of every patient.
        gap_days: Days from each discharge to the next admission.
    """

    start_date: date
    gap_days: int = 30


@dataclass(frozen=True)
class TableMapping:
    """Contents of a mapping file.

    Attributes:
        columns: Column of the table by common name, in lower case.
        table: Name of the table, if the source contains several.
        system: System of all codes. Without it and without a system column, codes are used as recorded.
        systems: Code system by value of the system column.
        calendar: Constructed days of the visits, if the table has no dates.
    """

    columns: dict[str, str]
    table: str | None = None
    system: CodeSystem | None = None
    systems: dict[str, CodeSystem] = field(default_factory=dict)
    calendar: Calendar | None = None

    @classmethod
    def read(cls, path: Path) -> "TableMapping":
        """Read a mapping file, as `docs/stores.md` describes it.

        Raises:
            UserError: The file cannot be read (keys `unreadable-file`, `invalid-toml`), a key is unknown or
                missing (`unknown-setting`, `missing-setting`), or a value is of the wrong type or
                names an unknown code system (`invalid-setting`, `unknown-code-system`).
        """
        values = read_toml(path)
        try:
            return cls.from_dict(values)
        except UserError as error:
            raise error.prefixed(f"{path}: ") from None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TableMapping":
        """Return the mapping of a parsed file. See `read`."""
        _check_keys("", values, ("table", "system", "columns", "systems", "calendar"))
        columns = _section(values, "columns", str)
        _check_keys("columns.", columns, _COLUMNS)
        systems = _section(values, "systems", str)
        calendar = _section(values, "calendar", (date, int))
        _check_keys("calendar.", calendar, ("start_date", "gap_days"))
        required = ("patient_id", "code", *(_VISIT_ORDER if calendar else _DATES))
        missing = [name for name in required if name not in columns]
        if missing:
            raise UserError(
                "missing-setting",
                f"[columns] does not name {', '.join(missing)}. Add them. A table without dates needs "
                f"{', '.join(_VISIT_ORDER)} and a [calendar].",
            )
        if calendar and not isinstance(calendar.get("start_date"), date):
            raise UserError(
                "missing-setting",
                "[calendar] has no start_date. Add a day without quotes, such as 2000-01-01.",
            )
        dated = [name for name in _OWN if name in columns]
        if calendar and dated:
            raise UserError(
                "invalid-setting",
                f"[columns] names {', '.join(dated)}, but the days of a [calendar] are constructed. Remove "
                "one of them.",
            )
        table = values.get("table")
        if not isinstance(table, str | None):
            raise UserError("invalid-setting", "table must be a text in quotes, the name of a table.")
        return cls(
            columns={name: column.lower() for name, column in columns.items()},
            table=table,
            system=_system(values["system"]) if "system" in values else None,
            systems={name: _system(system) for name, system in systems.items()},
            calendar=Calendar(**calendar) if calendar else None,
        )


def read_mapped(tables: RawTables, columns: TableMapping) -> StoreRecords:
    """Read a diagnosis table by a mapping of its columns.

    Raises:
        UserError: The table is missing (key `missing-table`), a column is missing (`missing-column`), or
            `columns` names no table and there are several (`ambiguous-table`).
    """
    mapping = columns
    table = (mapping.table or tables.only).lower()
    raw = tables.read(table, dict.fromkeys(mapping.columns.values()))
    values = {name: raw[column] for name, column in mapping.columns.items()}
    fields = {name: values[name] for name in ("patient_id", "code", *_OWN, *ORDERING) if name in values}
    visits = None
    if mapping.calendar:
        visits = _dated_visits(raw, values, mapping.calendar)
        fields["visit_id"] = _visit_id(values["patient_id"], values["visit_index"])
    else:
        fields |= {name: values[name] for name in _DATES}
    patients = None
    if any(name in values for name in _PERSONAL):
        patients = raw.select(**{name: values.get(name, ibis.null("string")) for name in PATIENTS.names})

    def place(name: str) -> str:
        return f"{table}.{mapping.columns[name]}"

    admit, discharge = _VISIT_ORDER if mapping.calendar else _DATES
    return StoreRecords(
        names=ColumnNames(place("code"), place("patient_id"), place(admit), place(admit), place(discharge)),
        diagnoses=diagnosis_rows(
            raw,
            record=[mapping.columns["code"]],
            **fields,
            **_coding(values, mapping),
        ),
        visits=visits,
        patients=patients,
    )


def _coding(values: Mapping[str, ir.StringValue], mapping: TableMapping) -> dict[str, ir.StringValue]:
    """Return the fields of `diagnosis_rows` that define the code system."""
    if mapping.system:
        return {"system": ibis.literal(mapping.system.value)}
    if "system" not in values:
        return {"final_code": values["code"]}
    system_name = values["system"]
    system = system_named(system_name)
    if mapping.systems:
        by_mapping = [(system_name == name, known.value) for name, known in mapping.systems.items()]
        system = ibis.cases(*by_mapping, else_=system)
    return {"system": system, "system_name": system_name}


def _visit_id(patient_id: ir.StringValue, visit_index: ir.StringValue) -> ir.StringValue:
    return patient_id + " " + without_decimals(visit_index)


def _dated_visits(raw: ir.Table, values: Mapping[str, ir.StringValue], calendar: Calendar) -> ir.Table:
    """Return one row per visit, each `gap_days` after the previous one."""
    visits = raw.select(
        patient_id=values["patient_id"],
        visit_id=_visit_id(values["patient_id"], values["visit_index"]),
        visit_index=values["visit_index"].try_cast("float64"),
        los_days=without_decimals(values["los_days"]).try_cast("int32"),
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
    """Return `YYYY-MM-DD`, also on DuckDB, where the sum of a date and an interval is a timestamp."""
    return day.cast("string").substr(0, 10)


def _section(values: Mapping[str, Any], name: str, types: Any) -> dict[str, Any]:
    section = values.get(name, {})
    if not isinstance(section, dict) or not all(isinstance(value, types) for value in section.values()):
        raise UserError(
            "invalid-setting", f"[{name}] must be a section of lines `name = value`, with texts in quotes."
        )
    return section


def _check_keys(section: str, values: Mapping[str, Any], known: Collection[str]) -> None:
    for key in values:
        if key not in known:
            similar = get_close_matches(key, known, n=1)
            hint = f"Did you mean {similar[0]}?" if similar else f"Known keys: {', '.join(known)}."
            raise UserError("unknown-setting", f"{section}{key} is unknown. {hint}")


def _system(name: Any) -> CodeSystem:
    try:
        return CodeSystem(name)
    except ValueError:
        raise UserError(
            "unknown-code-system", f"unknown code system {name!r}. Choose one of {', '.join(CodeSystem)}."
        ) from None


TABLE = Store(
    name="table",
    title="any table of diagnoses",
    read=read_mapped,
    options=(
        StoreOption(
            "columns",
            metavar="FILE",
            required=True,
            convert=lambda text: TableMapping.read(Path(text)),
            help="TOML file that names the columns of the table; docs/stores.md shows an example",
        ),
    ),
)
