"""BERT of patients, in Keras layers written with `keras.ops` alone; it does no input or output.

Dimensions, as they stand beside the tensors of this room:

    N  positions of a batch, one flat list      A  attention heads
    W  windows of one length                    D  width of a head, H / A
    T  positions of a window                    V  vocabulary size
    M  places for masked codes of a batch       H  hidden width
    S  places for patients of a batch           I  inner width of the feed-forward part
"""
