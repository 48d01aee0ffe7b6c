import pyarrow as pa
import pytest

from ehr_bert.codes import CodeSystem
from ehr_bert.codes.naming import system_by_shape, system_named
from ehr_bert.engines import DuckDBEngine


def applied(engine: DuckDBEngine, function, texts: list[str]) -> list[str | None]:
    table = engine.load(pa.table({"text": texts, "position": range(len(texts))}))
    return engine.collect(
        table.select(system=function(table.text), position="position").order_by("position")
    )["system"].to_pylist()


@pytest.mark.parametrize(
    ("system", "names"),
    [
        (CodeSystem.ICD9CM, ["ICD9CM", "icd-9-cm", "DIAGNOSIS//ICD//9", "ICD9"]),
        (CodeSystem.ICD10CM, ["ICD10CM", "ICD-10-CM"]),
        (CodeSystem.ICD10, ["ICD10", "DIAGNOSIS//ICD//10"]),
        (CodeSystem.ICD10GM, ["ICD10GM"]),
        (CodeSystem.SNOMED, ["SNOMED", "http://snomed.info/sct", "SNOMED-CT"]),
        (None, ["ICD9Proc", "ICD10PCS", "local", "ICD9CM_3digit", ""]),
    ],
)
def test_a_system_is_recognised_by_its_names(
    engine: DuckDBEngine, system: CodeSystem | None, names: list[str]
) -> None:
    assert applied(engine, system_named, names) == [system] * len(names)


@pytest.mark.parametrize(
    ("system", "codes"),
    [
        (
            CodeSystem.ICD9CM,
            ["250", "25000", "250.00", "8.45", "V707", "V70.7", "V10", "E849.0", "E9289", "E8786", " 4019 "],
        ),
        (
            CodeSystem.ICD10CM,
            ["E119", "E11.9", "e871", "E8770", "I10", "C50", "V00.01XA", "Z87891", "S72001A", "M1A.0"],
        ),
        (CodeSystem.SNOMED, ["44054006", "1121000119107", "195662009"]),
        (None, ["SR (Sinus Rhythm)", "12", "E", "", "I10|I11", "250.000"]),
    ],
)
def test_a_system_is_recognised_by_the_shape_of_a_code(
    engine: DuckDBEngine, system: CodeSystem | None, codes: list[str]
) -> None:
    assert applied(engine, system_by_shape, codes) == [system] * len(codes)
