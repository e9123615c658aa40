"""Worth: is a preference right? What people decided about pairs of answers, how often judges decide the same, and what
a model learns of a data set.

It offers:

- `gold`: pairs of answers of which people said which is better, read from and written to files; `gold_rows`: the forms
  of a row that are read
- `accuracy.measured`: how often a judge is right, with an interval, and how it errs
- `panel`: several judges' scores as one, with weights and offsets fitted to gold
- `calibration.calibrate`: a recipe's judges held to gold, in the `forms` that each could have, through the ledger
  (`rated_gold`); `planned`: what that would ask; `advice`: what it says in words
- `proving`: data sets compared by training a model on each (`arms`, `training`, `reading`, `reference`), asking it
  (`questions`, `asking`), and saying with intervals what follows (`bootstrap`, `conclusions`)

May import building, and what building may.
"""
