"""`ehr-bert extract`: extract the diagnoses of a store to one table."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ehr_bert.cli.engine_arguments import add_engine_arguments, opened_engine
from ehr_bert.cli.time_arguments import add_time_zone_argument, day_argument
from ehr_bert.errors import UserError
from ehr_bert.files import linked_path
from ehr_bert.logs import warn_of

if TYPE_CHECKING:
    from ehr_bert.sources.store import Store, StoreOption

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, with one group of options for each store."""
    from ehr_bert.sources.registry import STORES

    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="store: a folder of CSV, TSV or Parquet files, one such file, a DuckDB file, or a URL for Ibis",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--from", dest="store", choices=tuple(STORES), required=True, help="kind of store")
    parser.add_argument("--source-url", metavar="URL", help="URL of the store, instead of SOURCE")
    parser.add_argument(
        "--without-visit",
        choices=("reject", "keep"),
        default="reject",
        help="reject diagnoses without a visit id, or keep each as a one-day visit",
    )
    parser.add_argument(
        "--nested-visits",
        choices=("keep", "merge"),
        default="keep",
        help="keep visits whose days lie within another visit of the patient, or give them the days of that "
        "visit",
    )
    add_time_zone_argument(parser)
    parser.add_argument(
        "--extraction-date",
        type=day_argument,
        metavar="YYYY-MM-DD",
        help="day on which the records were extracted, or the study ended: patients are observed until then, "
        "or until the earlier end that the store states",
    )
    add_engine_arguments(parser)
    for name, store in STORES.usable().items():
        _add_store_arguments(parser, name, store)


def run(arguments: argparse.Namespace) -> None:
    """Extract the diagnoses of the store, and print a summary."""
    from ehr_bert.sources.extraction import write_extracted_folder
    from ehr_bert.sources.records import NestedVisits, WithoutVisit
    from ehr_bert.sources.registry import STORES
    from ehr_bert.sources.summary import extraction_text
    from ehr_bert.sources.tables import opened_tables
    from ehr_bert.sources.times import time_zone

    options = _store_options(arguments)
    source = _source(arguments)
    scratch = linked_path(arguments.out).parent
    zone = time_zone(arguments.time_zone)
    with opened_engine(arguments, scratch) as engine, opened_tables(engine, source, scratch, zone) as tables:
        summary = write_extracted_folder(
            engine,
            STORES[arguments.store].records(tables, **options),
            tables.where,
            arguments.out,
            WithoutVisit(arguments.without_visit),
            NestedVisits(arguments.nested_visits),
            arguments.extraction_date,
        )
    print(extraction_text(summary))


def _add_store_arguments(parser: argparse.ArgumentParser, name: str, store: "Store") -> None:
    group = parser.add_argument_group(f"--from {name} ({store.title})", store.description)
    for option in store.options:
        try:
            group.add_argument(
                option.flag,
                dest=_destination(name, option),
                choices=None if option.choices is None else tuple(map(str, option.choices)),
                metavar=option.metavar or (option.name.upper() if option.choices is None else None),
                help=option.help.replace("%", "%%"),
            )
        except argparse.ArgumentError:
            warn_of(logger, _duplicate_option(name, option))


def _duplicate_option(store: str, option: "StoreOption") -> UserError:
    return UserError(
        "duplicate-option",
        f"--from {store} cannot be used: its option {option.flag} exists already. Rename it in the package "
        "that provides the store.",
    )


def _destination(store: str, option: "StoreOption") -> str:
    """Return the attribute of an option in the parsed arguments. No other option has the same."""
    return f"store_option_{store}_{option.name}"


def _store_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the values of the options that are given, for the reader of the store.

    Raises:
        UserError: An option of another store is given (key `option-of-another-store`), a required one is
            missing (`missing-option`), or one exists in the command or another store (`duplicate-option`).
    """
    from ehr_bert.sources.registry import STORES

    options = {}
    for name, store in {**STORES.usable(), arguments.store: STORES[arguments.store]}.items():
        for option in store.options:
            if name == arguments.store and not hasattr(arguments, _destination(name, option)):
                raise _duplicate_option(name, option)
            text = getattr(arguments, _destination(name, option), None)
            if name != arguments.store and text is not None:
                raise UserError(
                    "option-of-another-store",
                    f"{option.flag} is an option of --from {name}, not of --from "
                    f"{arguments.store}. Remove it.",
                )
            if name == arguments.store and text is None and option.required:
                raise UserError(
                    "missing-option",
                    f"--from {name} requires {option.flag} {option.metavar or ''}".rstrip()
                    + ". docs/stores.md describes it.",
                )
            if name == arguments.store and text is not None:
                options[option.name] = option.convert(text)
    return options


def _source(arguments: argparse.Namespace) -> str:
    if arguments.source and arguments.source_url:
        raise UserError("conflicting-options", "SOURCE and --source-url are both given. Remove one of them.")
    if not (arguments.source or arguments.source_url):
        raise UserError("missing-option", "the store is missing. Add SOURCE or --source-url.")
    return arguments.source or arguments.source_url
