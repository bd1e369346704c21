"""One file a kind of stage: the file's name is the word in a recipe. curate/run/kinds.py says what such a file holds.

A kind names another kind only in what it needs and reads.
"""
