"""Pairing: scored completions -> pairs of a chosen and a rejected one, and a reason for each prompt without a pair.

It offers:

- `select.pair`: the pairs of all prompts; `select.select`: those of one
- `strategies.STRATEGIES`: the built-in strategies, which put possible pairs in order of preference; a new one is a
  function and a line there. `own_strategy`: strategies that a recipe names as the user's own code
- `candidates`: which completions can be in a pair, and `Evidence`, all that is known about them when pairs are selected
- `survey.survey`: what a shard contributes to facts about the whole data set (the worth of length, repeated texts);
  `survey_merge.merge`: the surveys of all shards merged into one result for each shard

It may import judging, and what judging may.
"""
