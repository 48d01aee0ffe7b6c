import logging

import pytest

from ehr_bert.logs import Verbosity, configure_logging, log_level, progress_bar, warn
from tests.user_errors import warning_keys

logger = logging.getLogger("ehr_bert.example")


@pytest.fixture(autouse=True)
def restored_level():
    with log_level(None):
        yield


@pytest.mark.parametrize(
    ("verbosity", "messages"),
    [
        (Verbosity.QUIET, ["many-epochs"]),
        (Verbosity.NORMAL, ["fact", "many-epochs"]),
        (Verbosity.VERBOSE, ["detail", "fact", "many-epochs"]),
    ],
)
def test_the_verbosity_determines_the_messages_on_stderr(capsys, verbosity, messages):
    configure_logging(verbosity)
    logger.debug("detail")
    logger.info("fact")
    warn(logger, "many-epochs", "Each patient is seen 90 times.")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages, strict=True):
        assert message in line
    assert lines[-1] == "warning: Each patient is seen 90 times. [many-epochs]"


def test_a_warning_has_a_key(caplog):
    warn(logger, "many-epochs", "Each patient is seen 90 times.")
    assert warning_keys(caplog) == ["many-epochs"]


def test_a_quiet_command_has_no_progress_bar(capsys):
    for verbosity, is_shown in ((Verbosity.QUIET, False), (Verbosity.NORMAL, True)):
        configure_logging(verbosity)
        assert list(progress_bar(logger, [1, 2], desc="counting")) == [1, 2]
        assert ("counting" in capsys.readouterr().err) == is_shown
