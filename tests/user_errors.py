"""Checks of errors and warnings by their stable keys, whatever their wording."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ehr_bert.errors import UserError


@contextmanager
def raises_user_error(key: str, *mentioned: object) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Expects a `UserError` with this key, on one line, that mentions each of `mentioned`."""
    with pytest.raises(UserError) as caught:
        yield caught
    error = caught.value
    assert error.key == key, f"expected [{key}], got {error}"
    assert "\n" not in error.message
    for value in mentioned:
        assert str(value) in error.message, f"{value!r} is not mentioned in {error.message!r}"


def warning_keys(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The keys of the warnings that were logged, in order."""
    return [record.key for record in caplog.records if hasattr(record, "key")]
