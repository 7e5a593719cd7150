"""Plain records into columns of cells by compiled code: the same results as the reference path, bit for bit.

``_rows`` (``rows.c`` and its headers) reads what is plain and writes cells; a value that is not plain goes to the exact
path alone, a record that is not plain as a whole. What cannot be recognised there is never guessed. Without the
compiled module everything takes the reference path, at ten times the CPU time.
"""
