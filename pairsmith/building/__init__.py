"""Whole runs and single steps, as a program or a notebook uses them; the flows run recipes by the same code.

`runs` works through a recipe, stage by stage and shard by shard; `steps` does one step on rows that a program has;
`rows` turns frames, data sets and lists of dicts into rows and back; `answers` knows the columns that stand for a
completion and its ratings. May import every wing but `testing`.
"""
