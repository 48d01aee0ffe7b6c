import numpy as np
import pyarrow as pa
import pytest

from ehr_bert.engines import DuckDBEngine, quantiles


@pytest.mark.parametrize("rows", [1, 2, 19, 20, 21, 1000])
def test_a_quantile_is_the_smallest_value_that_enough_rows_do_not_exceed(engine: DuckDBEngine, rows: int):
    values = np.random.default_rng(rows).integers(-5, 30, rows)
    result = quantiles(engine, engine.load(pa.table({"x": values})), "x")
    assert list(result) == ["min", "5%", "25%", "median", "75%", "95%", "max"]
    assert (result["min"], result["max"]) == (values.min(), values.max())
    for name, percent in (("5%", 5), ("25%", 25), ("median", 50), ("75%", 75), ("95%", 95)):
        enough = [value for value in values if 100 * (values <= value).sum() >= percent * rows]
        assert result[name] == min(enough)
