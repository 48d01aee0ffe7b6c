"""`python -m ehr_bert` is the command `ehr-bert`."""

import sys

from ehr_bert.cli import main

sys.exit(main())
