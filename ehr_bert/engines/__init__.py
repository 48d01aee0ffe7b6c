"""Engines: they read tables, compute Ibis expressions and stream the results."""

from ehr_bert.engines.duckdb import DuckDBEngine
from ehr_bert.engines.engine import LINE, LINE_NUMBER, Engine, header_line
from ehr_bert.engines.quantiles import quantiles

__all__ = ["LINE", "LINE_NUMBER", "DuckDBEngine", "Engine", "header_line", "quantiles"]
