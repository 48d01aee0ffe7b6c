"""Entry point of the tutorial programs that read their flags with absl and use TensorFlow."""

import sys
from collections.abc import Callable

from absl import app, logging

from ehr_bert.errors import UserError, error_line
from ehr_bert.logs import configure_logging
from ehr_bert.quiet import import_tensorflow


def run_program(program: str, main: Callable[[], None]) -> None:
    """Parse the flags and call `main`.

    An error that the user can fix is printed as one line, and the exit status is 1.

    Args:
        program: File name of the program, which precedes the error.
        main: The function that does the work.
    """

    def run(_: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        configure_logging()
        # absl adds a handler to the root logger, which would print the library's messages a second time.
        logging.get_absl_handler().addFilter(lambda record: not record.name.startswith("ehr_bert"))
        import_tensorflow()
        try:
            main()
        except (UserError, OSError) as error:
            sys.exit(f"{program}: {error_line(error)}")

    app.run(run)
