import pytest

from tests.prediction.small import export_folder


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    return export_folder(tmp_path_factory.mktemp("model") / "export")


@pytest.fixture(scope="session")
def without_cls(tmp_path_factory):
    return export_folder(tmp_path_factory.mktemp("model") / "export", cls_token=None)
