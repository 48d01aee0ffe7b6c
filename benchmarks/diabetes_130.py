"""The encounters of patients with diabetes in 130 US hospitals, as an extracted folder.

    python benchmarks/diabetes_130.py diagnoses.tsv.gz OUT

The data are Strack et al. 2014 (doi 10.24432/C5230J, CC BY 4.0). They tell no dates: `recital_tables.py` says
how those are constructed. Nor do they tell days of birth: a patient is as old at the first admission as the
middle of the band of ten years that is told there. Sex is told.
"""

import argparse
import json
from pathlib import Path

import duckdb
from recital_tables import B

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
    """Writes the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    diagnoses = arguments.output / "diagnoses"
    diagnoses.mkdir(parents=True, exist_ok=True)
    rows = f"({B.format(source=arguments.source)} order by patient_id, discharge_date, priority, code)"
    patients = f"({PATIENTS.format(source=arguments.source)} order by patient_id)"
    for table, file in (
        (rows, diagnoses / "00000.parquet"),
        (patients, arguments.output / "patients.parquet"),
    ):
        duckdb.sql(f"copy {table} to '{file}' (format parquet)")
    summary = {"source": "diabetes in 130 US hospitals", "dates": "constructed"}
    (arguments.output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
