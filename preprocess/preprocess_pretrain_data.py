"""Convert a diagnosis table to pickle files of patients and of code ids (Med-BERT tutorial, step 1).

python preprocess_pretrain_data.py DATA_FILE TYPES OUTPUT_PREFIX SAMPLE_SIZE
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ehr_bert.engines import DuckDBEngine
from ehr_bert.files import linked_path
from ehr_bert.logs import configure_logging
from ehr_bert.programs import exit_status
from ehr_bert.sequences.summary import summary_text
from ehr_bert.sequences.tutorial import write_tutorial_files
from ehr_bert.vocabulary import Vocabulary

NO_TYPES = "NA"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    program = argparse.ArgumentParser(
        description="Convert a diagnosis table to pickle files of patients, split 7:1:2, and of code ids.",
        epilog="Writes OUTPUT_PREFIX.bencs.{train,valid,test}, .ptencs.{train,valid,test}, .types, "
        ".summary.json and .rejected.parquet.",
    )
    program.add_argument(
        "data_file",
        type=Path,
        help="seven tab-separated columns with a header: patient, admission, discharge, diagnosis, "
        "present on admission, priority, third party; may be compressed (.gz)",
    )
    program.add_argument(
        "types",
        help=f".types or vocabulary.tsv file whose ids do not change, or {NO_TYPES} to number all codes",
    )
    program.add_argument("output_prefix", type=Path, help="prefix of the output files")
    program.add_argument("sample_size", type=int, help="number of patients to sample, 0 for all")
    program.add_argument("--seed", type=int, default=0, help="seed of splits and sample (default: 0)")
    return program


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program. Return the exit status, as `exit_status` does."""
    arguments = parser().parse_args(argv)
    configure_logging()

    def run() -> None:
        given = None if arguments.types == NO_TYPES else Vocabulary.read(Path(arguments.types))
        with DuckDBEngine(linked_path(arguments.output_prefix).parent) as engine:
            summary = write_tutorial_files(
                engine,
                arguments.data_file,
                arguments.output_prefix,
                arguments.seed,
                arguments.sample_size,
                given,
            )
        print(summary_text(summary))

    return exit_status("preprocess_pretrain_data.py", run)


if __name__ == "__main__":
    sys.exit(main())
