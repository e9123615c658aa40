"""Pairing: scored completions -> pairs of a chosen and a rejected one, and a reason for each prompt without a pair.

It offers:

- `select.pair`: the pairs of all prompts, `select.select` those of one
- `strategies.STRATEGIES`: in what order of preference candidates make pairs; a new one is a function and a line there;
  `own_strategy`: those that a recipe names as code of its own
- `candidates`: which completions can be in a pair, and `Evidence`, all that is known of them when pairs are selected
- `survey.survey`: what a shard tells of the whole data set (the worth of length, repeated texts); `survey_merge.merge`:
  what all surveys together tell each shard

It may import judging, and what judging may.
"""
