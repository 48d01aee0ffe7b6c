import pyarrow as pa
import pytest

from ehr_bert.cohorts.task_columns import kind_of_column
from ehr_bert.schemas import TASK_COLUMNS


@pytest.mark.parametrize(("kind", "column_type"), TASK_COLUMNS.items())
def test_the_kind_follows_from_the_column_type(kind, column_type):
    assert kind_of_column(column_type) == kind


def test_other_column_types_have_no_kind():
    assert kind_of_column(pa.string()) is None
