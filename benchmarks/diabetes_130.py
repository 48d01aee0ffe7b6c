"""Convert the encounters of diabetes patients in 130 US hospitals to an extracted folder.

    python benchmarks/diabetes_130.py diagnoses.tsv.gz OUT

The data are Strack et al. 2014 (doi 10.24432/C5230J, CC BY 4.0). They contain sex, but no dates:
`recital_tables.py` describes how these are constructed. They contain ten-year age bands instead of birth
dates: the age at the first admission is the middle of its band.
"""

import argparse
from pathlib import Path

import duckdb
from recital_tables import B

from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json

PATIENTS = """
select
    patient_id,
    make_date(2000 - (arg_min(age, visit_index::int)[2:].split('-')[1]::int + 5), 1, 1) as birth_date,
    case arg_min(gender, visit_index::int) when 'Female' then 'F' when 'Male' then 'M' end as sex,
    null::date as death_date,
    null::date as observation_start,
    null::date as observation_end
from read_csv('{source}', delim = '\t', header = true, all_varchar = true)
group by patient_id
"""


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    rows = f"({B.format(source=arguments.source)} order by patient_id, discharge_date, priority, code)"
    patients = f"({PATIENTS.format(source=arguments.source)} order by patient_id)"
    with atomic_folder(arguments.output, "diabetes_130", arguments.source) as temporary:
        (temporary / "diagnoses").mkdir()
        duckdb.sql(f"copy {rows} to '{temporary}/diagnoses/00000.parquet' (format parquet)")
        duckdb.sql(f"copy {patients} to '{temporary}/patients.parquet' (format parquet)")
        write_json(
            temporary / SUMMARY_FILE, {"source": "diabetes in 130 US hospitals", "dates": "constructed"}
        )


if __name__ == "__main__":
    main()
