from ehr_bert.cohorts.findings import AuditLevel, Finding, violation_count


def finding(violations, severity=AuditLevel.FAIL, task=None):
    statement = "every control has a later visit"
    return Finding("control-follow-up", statement, violations, violation_count(violations), severity, task)


def test_the_level_depends_on_violations_and_severity():
    assert finding(0).level == AuditLevel.PASS
    assert finding(3).level == AuditLevel.FAIL
    assert finding(3, AuditLevel.WARN).level == AuditLevel.WARN


def test_a_line_has_level_id_task_statement_and_count():
    line = "PASS control-follow-up: every control has a later visit (0 violations)"
    assert str(finding(0)) == str(finding(0, task="label")) == line
    assert str(finding(1, task="died")).startswith("FAIL control-follow-up (died): ")
    assert str(finding(1)).endswith("(1 violation)")


def test_a_finding_is_restored_from_its_json_values():
    for severity in (AuditLevel.FAIL, AuditLevel.WARN):
        assert Finding.from_dict(finding(2, severity, "died").to_dict()) == finding(2, severity, "died")
    values = finding(2).to_dict()
    assert (values["level"], values["ok"], values["is_warning"]) == ("FAIL", False, False)
