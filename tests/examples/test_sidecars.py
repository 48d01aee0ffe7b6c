import pytest

from ehr_bert.examples.sidecars import Sidecar
from tests.user_errors import raises_user_error


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "tutorial", "settings": {}}'])
def test_other_json_is_refused(tmp_path, text):
    path = tmp_path / "F.examples.json"
    path.write_text(text)
    with raises_user_error("invalid-examples-description", "F.examples.json"):
        Sidecar.read(path)


def test_another_kind_is_refused(tmp_path):
    path = tmp_path / "F.examples.json"
    path.write_text('{"kind": "other"}')
    with raises_user_error("unknown-example-kind", "'other'"):
        Sidecar.read(path)
