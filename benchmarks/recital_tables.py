"""Convert the two public corpora of docs/comparing.md to diagnosis tables.

    python benchmarks/recital_tables.py A/diagnoses.tsv.gz B/diagnoses.tsv.gz OUT

A are inpatient claims of CMS DE-SynPUF, samples 1 to 4 (synthetic, public domain); B are the encounters of
patients with diabetes in 130 US hospitals (Strack et al. 2014, doi 10.24432/C5230J, CC BY 4.0). Both have
ICD-9-CM. Writes OUT/A.parquet and OUT/B.parquet.

B contains no dates. They are constructed from the recorded lengths of stay, with gaps of 15 days after a
visit with a readmission within 30 days, 180 days after one with a later readmission, and 365 days
otherwise.
"""

import argparse
from pathlib import Path

import duckdb

A = """
select
    patient_id,
    admit::date as admit_date,
    discharge::date as discharge_date,
    'ICD9_' || code as code,
    priority::int as priority
from read_csv('{source}', delim = '\t', header = true, all_varchar = true)
where discharge >= admit
"""

B = """
with rows as (
    from read_csv('{source}', delim = '\t', header = true, all_varchar = true)
),
visits as (
    select distinct
        patient_id,
        visit_id,
        visit_index::int as number,
        los_days::int as days,
        case readmitted when '<30' then 15 when '>30' then 180 else 365 end as gap
    from rows
),
placed as (
    select
        visit_id,
        days,
        date '2000-01-01' + coalesce(
            sum(days + gap) over (
                partition by patient_id order by number rows between unbounded preceding and 1 preceding
            ),
            0
        )::int as admit_date
    from visits
)
select
    patient_id,
    admit_date,
    admit_date + days as discharge_date,
    'ICD9_' || code as code,
    priority::int as priority
from rows join placed using (visit_id)
"""


def main() -> None:
    """Write both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, query, source in (("A", A, arguments.a), ("B", B, arguments.b)):
        table = f"({query.format(source=source)} order by patient_id, discharge_date, priority, code)"
        file = arguments.output / f"{name}.parquet"
        duckdb.sql(f"copy {table} to '{file}' (format parquet)")
        ((rows, patients),) = duckdb.sql(
            f"select count(*), count(distinct patient_id) from '{file}'"
        ).fetchall()
        print(f"{file}: {rows:,} diagnoses of {patients:,} patients")


if __name__ == "__main__":
    main()
