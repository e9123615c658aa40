"""Labelling: people say which answer of a pair is better, on a page of this machine.

It offers:

- `pairs.pairs_in`: the pairs of a version; `drawing`: which of them people are asked about, in which order and sides
- `journal`: what each person said, a line a label; `desk.Desk`: one person at work
- `serving.serving`: the page on the loopback address; `app`: what it answers, and to whom; `templates/`: the page
- `votes`: labels as votes in a gold file; `agreement`: how far people, data set and judges agree
- `exchange`: pairs and labels to and from other tools: `argilla`, `label_studio`; `foreign`: a label of theirs

It may import worth, and what worth may.
"""
