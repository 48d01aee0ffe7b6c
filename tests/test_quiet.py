import subprocess
import sys

from transformers.utils import logging

from ehr_bert.quiet import quiet_transformers


def test_importing_tensorflow_writes_nothing():
    program = "from ehr_bert.quiet import import_tensorflow\nimport_tensorflow()\nprint('imported')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("imported\n", "")


def test_transformers_is_quiet_in_the_block_only():
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with quiet_transformers():
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.ERROR, False)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
