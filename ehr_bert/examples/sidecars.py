"""Sidecars: what stands beside files of examples, that is how they were made, and the names of the tokens.

Beside a file F of the tutorial's program these are `F.examples.json` and `F.vocabulary.tsv`; a folder of
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
"""Names of the sidecars in a folder; after a file's name and a dot those of that file."""


FORMS: Mapping[str, tuple[type[TutorialSettings | PackedSettings], type[FileFacts]]] = {
    tutorial.TUTORIAL: (TutorialSettings, FileFacts),
    packed.PACKED: (PackedSettings, PackedFacts),
}
"""The kinds of examples: what tells how they were made, and what each file holds."""


@dataclass(frozen=True)
class Sidecar:
    """How files of examples were made, and what they hold.

    Attributes:
        kind: The kind of examples.
        settings: How they were made.
        mask_id: The id that hides a code.
        cls_id: The id of the `[CLS]` that leads each patient, or None.
        vocab_size: Ids of the vocabulary.
        vocabulary_sha256: `Vocabulary.sha256`.
        accounts: What became of the patients, by split, or by input file.
        files: What each file holds, by name.
    """

    kind: str
    settings: TutorialSettings | PackedSettings
    mask_id: int
    cls_id: int | None
    vocab_size: int
    vocabulary_sha256: str
    accounts: Mapping[str, Accounts]
    files: Mapping[str, FileFacts]

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "Sidecar":
        """Reads what `write` wrote.

        Raises:
            UserError: the file is something else.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["kind"] not in FORMS:
                raise UserError(
                    f"{path} describes examples of kind {values['kind']!r}, not {' or '.join(FORMS)}"
                )
            settings, facts = FORMS[values["kind"]]
            return cls(
                **values
                | {
                    "settings": settings.from_dict(values["settings"]),
                    "accounts": {name: Accounts(**each) for name, each in values["accounts"].items()},
                    "files": {name: facts(**each) for name, each in values["files"].items()},
                }
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} doesn't describe examples: make it and its files again") from error


def sidecar_path(file: Path, name: str) -> Path:
    """Where the sidecar of that name lies for one file of examples."""
    return file.with_name(f"{file.name}.{name}")


def is_sidecar(file: Path) -> bool:
    """Whether a file stands beside examples and holds none."""
    return file.name == SUMMARY_FILE or file.name.endswith((INFO_NAME, VOCABULARY_TABLE))


def find_sidecar(file: Path) -> Sidecar | None:
    """What is told of a file of examples beside it; None where nothing is."""
    for path in (sidecar_path(file, INFO_NAME), file.with_name(INFO_NAME)):
        if path.exists():
            sidecar = Sidecar.read(path)
            if file.name in sidecar.files:
                return sidecar
    return None


def find_vocabulary(file: Path) -> Path:
    """The vocabulary beside a file of examples that has a sidecar."""
    own = sidecar_path(file, VOCABULARY_TABLE)
    return own if own.exists() else file.with_name(VOCABULARY_TABLE)
