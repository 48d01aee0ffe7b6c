"""Sidecars: files next to the examples that describe them, and the vocabulary.

The sidecars of a file F of the tutorial's program are `F.examples.json` and `F.vocabulary.tsv`. A folder of
`ehr-bert features` has one `examples.json` and one `vocabulary.tsv`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ehr_bert.errors import UserError
from ehr_bert.examples import packed, tutorial
from ehr_bert.examples.facts import FileFacts, PackedFacts
from ehr_bert.examples.packed import PackedSettings
from ehr_bert.examples.tutorial import TutorialSettings
from ehr_bert.examples.windows import Accounts
from ehr_bert.files import SUMMARY_FILE, write_json
from ehr_bert.vocabulary import VOCABULARY_TABLE

INFO_NAME = "examples.json"
"""Name of the description in a folder. The one of a single file is called `<file>.examples.json`."""


FORMS: Mapping[str, tuple[type[TutorialSettings | PackedSettings], type[FileFacts]]] = {
    tutorial.TUTORIAL: (TutorialSettings, FileFacts),
    packed.PACKED: (PackedSettings, PackedFacts),
}
"""Kinds of examples, with the classes of their settings and of the counts of each file."""


@dataclass(frozen=True)
class Sidecar:
    """Description of files of examples: how they were made, and what they contain.

    Attributes:
        kind: Kind of the examples.
        settings: Settings with which they were made.
        mask_id: Id that replaces a masked code.
        cls_id: Id of the `[CLS]` that precedes each patient, or None.
        vocab_size: Number of tokens of the vocabulary.
        vocabulary_sha256: `Vocabulary.sha256`.
        accounts: Counts of patients by split, or by input file.
        files: Counts of each file by name.
        observation: Whether the examples have the features of `observation.DAYS_TO`. The file has this key
            only if they do, so that it is the same as in version 0.1 if they do not.
    """

    kind: str
    settings: TutorialSettings | PackedSettings
    mask_id: int
    cls_id: int | None
    vocab_size: int
    vocabulary_sha256: str
    accounts: Mapping[str, Accounts]
    files: Mapping[str, FileFacts]
    observation: bool = False

    def write(self, path: Path) -> None:
        """Write the description as JSON."""
        values = asdict(self)
        if not self.observation:
            del values["observation"]
        write_json(path, values)

    @classmethod
    def read(cls, path: Path) -> "Sidecar":
        """Read a description that `write` wrote.

        Raises:
            UserError: The file describes an unknown kind of examples (key `unknown-example-kind`) or is not a
                description of examples (`invalid-examples-description`).
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["kind"] not in FORMS:
                raise UserError(
                    "unknown-example-kind",
                    f"{path} describes examples of the kind {values['kind']!r}. Known: {', '.join(FORMS)}.",
                )
            settings, facts = FORMS[values["kind"]]
            return cls(
                **values
                | {
                    "settings": settings.from_dict(values["settings"]),
                    "accounts": {name: Accounts(**counts) for name, counts in values["accounts"].items()},
                    "files": {name: facts(**counts) for name, counts in values["files"].items()},
                }
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                "invalid-examples-description",
                f"{path} is not a description of examples. Run `ehr-bert features` again.",
            ) from error


def sidecar_path(file: Path, name: str) -> Path:
    """Return the path of the sidecar `name` of a single file of examples."""
    return file.with_name(f"{file.name}.{name}")


def is_sidecar(file: Path) -> bool:
    """Return whether a file in a folder of examples is not a file of examples."""
    return file.name == SUMMARY_FILE or file.name.endswith((INFO_NAME, VOCABULARY_TABLE))


def find_sidecar(file: Path) -> Sidecar | None:
    """Return the description of a file of examples, or None if it has none."""
    for path in (sidecar_path(file, INFO_NAME), file.with_name(INFO_NAME)):
        if path.exists():
            sidecar = Sidecar.read(path)
            if file.name in sidecar.files:
                return sidecar
    return None


def find_vocabulary(file: Path) -> Path:
    """Return the path of the vocabulary of a file of examples with a description."""
    own = sidecar_path(file, VOCABULARY_TABLE)
    return own if own.exists() else file.with_name(VOCABULARY_TABLE)
