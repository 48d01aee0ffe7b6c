"""The Med-BERT tutorial's first program: a table of diagnoses becomes pickled patients and a dictionary.

python preprocess_pretrain_data.py DATA_FILE TYPES OUTPUT_PREFIX SAMPLE_SIZE
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ehr_bert.engines import DuckDBEngine
from ehr_bert.errors import UserError, error_line
from ehr_bert.sequences.summary import summary_text
from ehr_bert.sequences.tutorial import write_tutorial_files
from ehr_bert.vocabulary import Vocabulary

NO_TYPES = "NA"


def parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    program = argparse.ArgumentParser(
        description="Turn a table of diagnoses into pickled patients, split 7:1:2, and a dictionary.",
        epilog="Writes OUTPUT_PREFIX.bencs.{train,valid,test}, .ptencs.{train,valid,test}, .types, "
        ".summary.json and .rejected.parquet.",
    )
    program.add_argument(
        "data_file",
        type=Path,
        help="seven tab-separated columns with a header: patient, admission, discharge, diagnosis, "
        "present on admission, priority, third party; .gz too",
    )
    program.add_argument(
        "types", help=f"a .types or vocabulary.tsv file whose ids are kept, or {NO_TYPES} to number the codes"
    )
    program.add_argument("output_prefix", type=Path, help="how the names of the output files begin")
    program.add_argument("sample_size", type=int, help="how many patients to take, 0 for all")
    program.add_argument("--seed", type=int, default=0, help="decides splits and sample (default: 0)")
    return program


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; the exit status is 0, or 1 after a fault the user can mend."""
    arguments = parser().parse_args(argv)
    try:
        given = None if arguments.types == NO_TYPES else Vocabulary.read(Path(arguments.types))
        with DuckDBEngine(arguments.output_prefix.absolute().parent) as engine:
            summary = write_tutorial_files(
                engine,
                arguments.data_file,
                arguments.output_prefix,
                arguments.seed,
                arguments.sample_size,
                given,
            )
    except (UserError, OSError) as error:
        print(f"preprocess_pretrain_data.py: {error_line(error)}", file=sys.stderr)
        return 1
    print(summary_text(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
