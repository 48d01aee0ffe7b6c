"""Where relational work runs. An engine reads tables, computes Ibis expressions and streams the result."""

from ehr_bert.engines.duckdb import DuckDBEngine
from ehr_bert.engines.engine import LINE, LINE_NUMBER, Engine
from ehr_bert.engines.quantiles import quantiles

__all__ = ["LINE", "LINE_NUMBER", "DuckDBEngine", "Engine", "quantiles"]
