"""The fast path: sub-batches into blocks column by column, as text. The same results as the exact path, bit for bit.

A column takes its sub-batch only if every value in it is plain; the values that are not go to the exact path one by
one, and records that are not plain as a whole. What cannot be recognised here is never guessed.
"""
