"""How the programs of the Med-BERT tutorial run that read their flags by absl and work with TensorFlow."""

import sys
from collections.abc import Callable

from absl import app, logging

from ehr_bert.errors import UserError, error_line
from ehr_bert.logs import configure_logging
from ehr_bert.quiet import import_tensorflow


def run_program(program: str, main: Callable[[], None]) -> None:
    """Reads the flags, then runs `main`; a fault that the user can mend ends it with one line and status 1.

    Args:
        program: The program's file name, which stands before the line.
        main: What the program does.
    """

    def run(_: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        configure_logging()
        import_tensorflow()
        try:
            main()
        except (UserError, OSError) as error:
            sys.exit(f"{program}: {error_line(error)}")

    app.run(run)
