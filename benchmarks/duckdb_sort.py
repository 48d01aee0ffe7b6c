"""Lower bound for creating sequences: DuckDB reads the table, sorts it and writes it as Parquet.

python benchmarks/duckdb_sort.py TABLE OUT MEMORY_LIMIT
"""

import sys
from pathlib import Path

import duckdb


def main() -> None:
    """Sort by patient, discharge and code."""
    table, out, memory_limit = sys.argv[1:]
    settings = {"memory_limit": memory_limit, "temp_directory": str(Path(out).with_suffix(".spill"))}
    duckdb.connect(config=settings).execute(
        f"COPY (SELECT * FROM read_csv('{table}', delim='\t', header=true) ORDER BY 1, 3, 4) TO '{out}'"
        " (FORMAT parquet)"
    )


if __name__ == "__main__":
    main()
