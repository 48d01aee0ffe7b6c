import re

from ehr_bert.simulation.conditions import Conditions

ICD9 = re.compile(r"ICD9_(\d{3}|V\d{2}|E\d{3})(\.\d{1,2})?")
ICD10 = re.compile(r"ICD10_[A-Z]\d[\dA-Z](\.[\dA-Z]{1,4})?")


def test_causes_are_listed_before_their_effects(conditions: Conditions) -> None:
    seen: set[str] = set()
    for condition in conditions.chronic:
        assert condition.after.keys() <= seen
        seen.add(condition.name)


def test_every_condition_can_start(conditions: Conditions) -> None:
    for condition in conditions.chronic:
        assert condition.arises > 0 or condition.after
        assert all(rate > 0 for rate in condition.after.values())
        assert 0 < condition.coded < 1
        assert condition.sex in (None, "male", "female")


def test_every_referenced_name_exists(conditions: Conditions) -> None:
    acute = {problem.name for problem in conditions.acute}
    for condition in conditions.chronic:
        assert condition.brings
        assert acute.issuperset(condition.brings)
    outcome = conditions.outcome
    named = {outcome.condition, *outcome.recorded, *outcome.recent}
    named |= {name for term in outcome.together for name in term["of"]}
    named |= {term[side] for term in outcome.in_order for side in ("first", "then")}
    assert named <= conditions.numbers.keys()


def test_the_outcome_neither_depends_on_itself_nor_causes_a_condition(conditions: Conditions) -> None:
    outcome = conditions.outcome
    assert outcome.condition not in {*outcome.recorded, *outcome.recent}
    assert all(outcome.condition not in condition.after for condition in conditions.chronic)


def test_a_code_is_well_formed_and_in_one_family(conditions: Conditions) -> None:
    assert len(set(conditions.codes)) == len(conditions.codes) == len(conditions.titles)
    for system, pattern in zip(conditions.members, (ICD9, ICD10), strict=True):
        for family in system:
            assert len(family) >= 2
            assert all(pattern.fullmatch(conditions.codes[code]) for code in family)
    members = [code for system in conditions.members for family in system for code in family]
    assert sorted(members) == list(range(len(conditions.codes)))
    assert all(title and title == title.strip() for title in conditions.titles)


def test_heart_failure_is_exactly_428_and_i50(conditions: Conditions) -> None:
    number = conditions.numbers["heart_failure"]
    family = {conditions.codes[code] for system in conditions.members for code in system[number]}
    assert family == {code for code in conditions.codes if code.startswith(("ICD9_428", "ICD10_I50"))}
