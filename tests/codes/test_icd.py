# Covers: ehr_bert.codes.icd, ehr_bert.codes.systems
import re

import ibis
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ehr_bert.codes import CodeSystem, canonical
from ehr_bert.codes.maps import ccsr_categories, icd9_codes

SHAPES = {
    "ICD9_": r"\d{3}(\.\d{1,2})?|V\d\d(\.\d{1,2})?|E\d{3}(\.\d)?",
    "ICD10_": r"[A-Z]\d[0-9A-Z](\.[0-9A-Z]{1,4})?",
    "SNOMED_": r"\d{6,18}",
}


@pytest.fixture(scope="module")
def duckdb() -> ibis.BaseBackend:
    return ibis.duckdb.connect(threads=1)


def canonicals(duckdb: ibis.BaseBackend, codes: list[str | None], system: str | None) -> list[str | None]:
    frame = pd.DataFrame({"code": codes, "system": system}, dtype="str")
    rows = ibis.memtable(frame, schema={"code": "string", "system": "string"})
    return duckdb.to_pyarrow(rows.select(canonical=canonical(rows.code, rows.system)))[
        "canonical"
    ].to_pylist()


@pytest.mark.parametrize(
    ("code", "system", "expected"),
    [
        ("250.00", "ICD9CM", "ICD9_250.00"),
        ("25000", "ICD9CM", "ICD9_250.00"),
        ("250", "ICD9CM", "ICD9_250"),
        ("250.", "ICD9CM", "ICD9_250"),
        (" e8859\t", "ICD9CM", "ICD9_E885.9"),
        ("E885.9", "ICD9CM", "ICD9_E885.9"),
        ("v5861", "ICD9CM", "ICD9_V58.61"),
        ("V10", "ICD9CM", "ICD9_V10"),
        ("8.45", "ICD9CM", "ICD9_008.45"),
        ("38.9", "ICD9CM", "ICD9_038.9"),
        ("00845", "ICD9CM", "ICD9_008.45"),
        ("e119", "ICD10CM", "ICD10_E11.9"),
        ("E11.9", "ICD10GM", "ICD10_E11.9"),
        ("E11.-", "ICD10", "ICD10_E11"),
        ("G01*", "ICD10", "ICD10_G01"),
        ("A17.0†", "ICD10", "ICD10_A17.0"),
        ("c4a", "ICD10CM", "ICD10_C4A"),
        ("T360X1A", "ICD10CM", "ICD10_T36.0X1A"),
        (" 44054006 ", "SNOMED", "SNOMED_44054006"),
    ],
)
def test_a_code_has_one_canonical_form(
    duckdb: ibis.BaseBackend, code: str, system: str, expected: str
) -> None:
    assert canonicals(duckdb, [code], system) == [expected]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("1001", "010.01"),  # 100.1 is not a code.
        ("19", "001.9"),  # There is no 019.
        ("10", "010"),  # 001.0 is also a code.
        ("8", "008"),
        ("845", "845"),  # A heading without more zeros, although 084.5 and 008.45 are codes.
        ("329", "329"),  # 032.9 and 003.29 are codes.
        ("7777", "777.7"),
    ],
)
def test_without_a_dot_lost_zeros_are_restored_only_if_exactly_one_number_of_them_makes_a_code(
    duckdb: ibis.BaseBackend, code: str, expected: str
) -> None:
    assert canonicals(duckdb, [code], "ICD9CM") == [f"ICD9_{expected}"]


@pytest.mark.parametrize(
    ("code", "system"),
    [
        ("", "ICD9CM"),
        (None, "ICD9CM"),
        ("250.001", "ICD9CM"),
        ("123456", "ICD9CM"),
        ("4.019", "ICD9CM"),
        ("V5.86", "ICD9CM"),
        ("E88.59", "ICD9CM"),
        ("E11.9", "ICD9CM"),
        ("250.00", "ICD10CM"),
        ("E1.19", "ICD10CM"),
        ("T36.0X1AB", "ICD10CM"),
        ("diabetes", "SNOMED"),
        ("250.00", "Nebraska Lexicon"),
        ("250.00", None),
    ],
)
def test_an_invalid_code_of_the_system_is_null(
    duckdb: ibis.BaseBackend, code: str | None, system: str | None
) -> None:
    assert canonicals(duckdb, [code], system) == [None]


@pytest.mark.parametrize(("prefix", "system"), [("ICD9_", "ICD9CM"), ("ICD10_", "ICD10CM")])
def test_every_known_code_has_the_same_canonical_form_dotted_undotted_and_in_any_case(
    duckdb: ibis.BaseBackend, prefix: str, system: str
) -> None:
    expected = sorted(icd9_codes() if prefix == "ICD9_" else ccsr_categories())
    codes = [code.removeprefix(prefix) for code in expected]
    assert len(codes) > 15_000
    assert canonicals(duckdb, codes, system) == expected
    assert canonicals(duckdb, [code.replace(".", "") for code in codes], system) == expected
    assert canonicals(duckdb, [f" {code.lower()} " for code in codes], system) == expected


def test_all_lost_zeros_before_a_dot_are_restored(duckdb: ibis.BaseBackend) -> None:
    expected = sorted(code for code in icd9_codes() if re.fullmatch(r"ICD9_0\d\d\.\d+", code))
    assert len(expected) > 500
    numbers = [code.removeprefix("ICD9_").lstrip("0") for code in expected if not code.startswith("ICD9_000")]
    assert canonicals(duckdb, numbers, "ICD9CM") == expected


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    codes=st.lists(
        st.from_regex(r"[A-Ze\d]?[\dA]{0,5}\.?[\dX]{0,4}[ .*]?", fullmatch=True), min_size=50, max_size=100
    ),
    system=st.sampled_from(list(CodeSystem)),
)
def test_canonical_codes_have_the_shape_of_their_system_and_are_stable(
    duckdb: ibis.BaseBackend, codes: list[str], system: CodeSystem
) -> None:
    valid = [code for code in canonicals(duckdb, [*codes, "250"], system.value) if code is not None]
    assert all(re.fullmatch(system.prefix + f"({SHAPES[system.prefix]})", code, re.ASCII) for code in valid)
    assert canonicals(duckdb, [code.removeprefix(system.prefix) for code in valid], system.value) == valid
