"""`ehr-bert extract`: the diagnoses of a store of health records become one table."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ehr_bert.cli.engine_arguments import add_engine_arguments, opened_engine

if TYPE_CHECKING:
    from ehr_bert.sources.store import Store
    from ehr_bert.sources.tables import Tables

_OPTIONS = {
    "codes": "omop",
    "condition_types": "omop",
    "source_vocabulary": "omop",
    "diagnoses": "meds",
    "columns": "table",
}
"""By option, the one kind of store that it is for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="the store: a folder of CSV or Parquet files, a DuckDB file, or a URL that Ibis connects to",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write")
    parser.add_argument(
        "--from",
        dest="kind",
        choices=("omop", "mimic-iv", "mimic-iii", "meds", "synthea", "table"),
        required=True,
        help="what kind of store it is",
    )
    parser.add_argument("--source-url", metavar="URL", help="the store, in place of SOURCE")
    parser.add_argument(
        "--without-visit",
        choices=("reject", "keep"),
        default="reject",
        help="diagnoses that name no visit: reject them, or keep each as a one-day visit of its own",
    )
    parser.add_argument(
        "--nested-visits",
        choices=("keep", "merge"),
        default="keep",
        help="visits whose days lie inside another of the same patient: keep them, or give them its days",
    )
    parser.add_argument(
        "--codes",
        choices=("source", "standard"),
        help="omop: take the codes of the source (the default) or the standard concepts",
    )
    parser.add_argument(
        "--condition-types",
        metavar="ID,...",
        help="omop: take the conditions of these condition_type_concept_id only",
    )
    parser.add_argument(
        "--source-vocabulary",
        choices=("ICD9CM", "ICD10CM", "ICD10", "ICD10GM", "SNOMED"),
        help="omop: of which system source codes are that the concept table doesn't tell of; without it "
        "their shape decides",
    )
    parser.add_argument(
        "--diagnoses",
        metavar="REGEX",
        help="meds: what the codes of diagnoses match; docs/stores.md has the default",
    )
    parser.add_argument(
        "--columns", type=Path, metavar="FILE", help="table: the TOML file that names its columns"
    )
    add_engine_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Runs the stage."""
    from ehr_bert.sources.extraction import write_extracted_folder
    from ehr_bert.sources.store import NestedVisits, WithoutVisit
    from ehr_bert.sources.summary import extraction_text
    from ehr_bert.sources.tables import opened

    read = _reader(arguments)
    source = _source(arguments)
    scratch = arguments.out.absolute().parent
    with (
        opened_engine(arguments, scratch) as engine,
        opened(engine, source, scratch) as tables,
    ):
        summary = write_extracted_folder(
            engine,
            read(tables),
            tables.where,
            arguments.out,
            WithoutVisit(arguments.without_visit),
            NestedVisits(arguments.nested_visits),
        )
    print(extraction_text(summary))


def _source(arguments: argparse.Namespace) -> str:
    from ehr_bert.errors import UserError

    given = [source for source in (arguments.source, arguments.source_url) if source]
    if len(given) != 1:
        raise UserError("name the store once: as SOURCE, or by --source-url")
    return given[0]


def _reader(arguments: argparse.Namespace) -> "Callable[[Tables], Store]":
    """What reads this kind of store, with its options."""
    from ehr_bert.codes import CodeSystem
    from ehr_bert.errors import UserError
    from ehr_bert.sources.mapped import TableMapping, read_mapped
    from ehr_bert.sources.meds import DIAGNOSIS, read_meds
    from ehr_bert.sources.mimic import MIMIC_III, MIMIC_IV, read_mimic
    from ehr_bert.sources.omop import OmopCodes, read_omop
    from ehr_bert.sources.synthea import read_synthea

    kind = arguments.kind
    for option, meant_for in _OPTIONS.items():
        if getattr(arguments, option) is not None and kind != meant_for:
            raise UserError(
                f"--{option.replace('_', '-')} is for --from {meant_for}, not {kind}: leave it out"
            )
    if kind == "table":
        if arguments.columns is None:
            raise UserError("--from table needs --columns FILE: docs/stores.md shows one")
        mapping = TableMapping.read(arguments.columns)
        return lambda tables: read_mapped(tables, mapping)
    if kind == "meds":
        return lambda tables: read_meds(tables, arguments.diagnoses or DIAGNOSIS)
    if kind == "omop":
        codes = OmopCodes(arguments.codes or OmopCodes.SOURCE)
        types = [number.strip() for number in (arguments.condition_types or "").split(",") if number.strip()]
        vocabulary = CodeSystem(arguments.source_vocabulary) if arguments.source_vocabulary else None
        return lambda tables: read_omop(tables, codes, types, vocabulary)
    if kind == "synthea":
        return read_synthea
    mimic = {"mimic-iii": MIMIC_III, "mimic-iv": MIMIC_IV}[kind]
    return lambda tables: read_mimic(tables, mimic)
