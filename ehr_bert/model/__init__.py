"""BERT of patients, in Keras layers that only use `keras.ops`. No input or output.

Dimensions of the tensors:

    A  attention heads                            P  positions of a batch, one flat list
    D  size of an attention head, H / A           S  slots for patients of a batch
    H  hidden size                                T  tokens of a window
    I  intermediate size                          V  vocabulary
    M  slots for masked codes of a batch          W  windows of one length
"""
