"""Declaration of a store: its name, the tables that it consists of, its options and its reader."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ehr_bert.sources.records import StoreRecords
    from ehr_bert.sources.tables import RawTables


@dataclass(frozen=True)
class StoreOption:
    """An option of `ehr-bert extract` that applies to one store.

    Attributes:
        name: Keyword argument of the reader, such as `condition_types` for the option `--condition-types`.
        help: Description for `ehr-bert extract --help`.
        metavar: Placeholder of the value in the help.
        choices: Allowed values. None allows any text.
        convert: Converts the text to what the reader expects. It may raise a `UserError`.
        required: Whether the store cannot be read without the option.
    """

    name: str
    help: str
    metavar: str | None = None
    choices: Iterable[str] | None = None
    convert: Callable[[str], Any] = str
    required: bool = False

    @property
    def flag(self) -> str:
        """The option on the command line, such as `--condition-types`."""
        return f"--{self.name.replace('_', '-')}"


@dataclass(frozen=True)
class Store:
    """A kind of store that `ehr-bert extract` can read.

    Attributes:
        name: Value of `--from`, such as `omop`; the same name as in `STORES`.
        title: Full name for the help, such as `OMOP common data model 5.3 and 5.4`.
        read: The reader: a function of the raw tables that returns the records. Each option that is given
            is passed as a keyword argument.
        tables: Tables that must exist, in lower case.
        optional_tables: Tables that are read if they exist, in lower case.
        options: Options of the reader. No two stores may declare an option of the same name.

    Example:
        >>> store = Store("registry", "Cancer registry", read=print, tables=("cases", "stays"))
        >>> store.description
        'Tables: cases, stays.'
    """

    name: str
    title: str
    read: "Callable[..., StoreRecords]"
    tables: tuple[str, ...] = ()
    optional_tables: tuple[str, ...] = ()
    options: tuple[StoreOption, ...] = ()

    @property
    def description(self) -> str:
        """The tables of the store, as a sentence for the help."""
        if not self.tables:
            return "One table of any name."
        optional = f" Optional: {', '.join(self.optional_tables)}." if self.optional_tables else ""
        return f"Tables: {', '.join(self.tables)}.{optional}"

    def records(self, tables: "RawTables", **options: Any) -> "StoreRecords":
        """Read the records.

        Args:
            tables: Tables of the store.
            **options: Values of `options` by name.

        Raises:
            UserError: A table is missing (key `missing-table`), or the reader finds an error in the tables.
        """
        missing = [name for name in self.tables if name not in tables]
        if missing:
            raise tables.missing(*missing)
        return self.read(tables, **options)
