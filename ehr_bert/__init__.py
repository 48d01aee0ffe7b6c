"""EHR-BERT: pretrain BERT on structured health records, and predict diseases with it."""

__version__ = "0.2.0"
