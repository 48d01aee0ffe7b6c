"""BERT of patients, in Keras layers written with `keras.ops` alone; it does no input or output.

Dimensions, as they stand beside the tensors of this room:

    B  patients (or windows) in a batch      N  attention heads
    T  positions of a window                 D  width of a head, H / N
    H  hidden width                          V  vocabulary size
    I  inner width of the feed-forward part  P  masked positions of a window
"""
