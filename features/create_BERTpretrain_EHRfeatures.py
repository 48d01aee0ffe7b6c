"""Convert sequences of patients to masked TFRecord examples (Med-BERT tutorial, step 2).

    python features/create_BERTpretrain_EHRfeatures.py --input_file=P.bencs.train --output_file=F
        --vocab_file=P.types --max_predictions_per_seq=1 --max_seq_length=64

The flags are those of the tutorial's program. F.examples.json describes how F was made, and F.vocabulary.tsv
lists its tokens.
"""

from pathlib import Path

from absl import flags

from ehr_bert.programs import run_program

FLAGS = flags.FLAGS

flags.DEFINE_string("input_file", None, "Sequences of patients (.bencs file).", required=True)
flags.DEFINE_list(
    "output_file",
    None,
    "TFRecord file to write, or a list of files, to which examples are written in turn.",
    required=True,
)
flags.DEFINE_string("vocab_file", None, "Vocabulary: vocabulary.tsv or .types.", required=True)
flags.DEFINE_integer("max_seq_length", 32, "Largest number of tokens per example.")
flags.DEFINE_integer("max_predictions_per_seq", 2, "Largest number of masked codes per example.")
flags.DEFINE_float(
    "masked_lm_prob", 0.35, "Share of the codes of an example to mask; at least one is masked."
)
flags.DEFINE_integer("random_seed", 12345, "Seed of the masking.")
flags.DEFINE_enum(
    "long_patients",
    "split",
    ["split", "latest", "drop"],
    "Patients longer than an example are split at visits, cut to their latest visits, or excluded.",
)
flags.DEFINE_bool(
    "med_bert",
    False,
    "Reproduce Med-BERT: mask with id 0, no [CLS], exclude patients that are too long or have a first "
    "stay of 0 days or less.",
)


def main() -> None:
    """Run the program."""
    from ehr_bert.examples.tutorial import TutorialSettings
    from ehr_bert.examples.windows import LongPatients
    from ehr_bert.examples.writing import write_files
    from ehr_bert.pickles import read_bencs
    from ehr_bert.vocabulary import Vocabulary

    input_file = Path(FLAGS.input_file)
    accounts = write_files(
        read_bencs(input_file),
        input_file.name,
        Vocabulary.read(Path(FLAGS.vocab_file)),
        TutorialSettings(
            max_seq_length=FLAGS.max_seq_length,
            max_predictions_per_seq=FLAGS.max_predictions_per_seq,
            masked_lm_prob=FLAGS.masked_lm_prob,
            seed=FLAGS.random_seed,
            long_patients=LongPatients(FLAGS.long_patients),
            med_bert=FLAGS.med_bert,
        ),
        [Path(file) for file in FLAGS.output_file],
    )
    print(accounts)


if __name__ == "__main__":
    run_program("create_BERTpretrain_EHRfeatures.py", main)
