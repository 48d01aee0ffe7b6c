import pytest

from ehr_bert.errors import UserError
from ehr_bert.examples.sidecars import Sidecar


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "tutorial", "settings": {}}'])
def test_other_json_is_refused(tmp_path, text):
    path = tmp_path / "F.examples.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"F\.examples\.json doesn't describe examples"):
        Sidecar.read(path)


def test_another_kind_is_refused(tmp_path):
    path = tmp_path / "F.examples.json"
    path.write_text('{"kind": "other"}')
    with pytest.raises(UserError, match="kind 'other'"):
        Sidecar.read(path)
