"""Judging: completions -> ratings, and ratings -> one score for each completion.

It offers:

- `rating.rate`: one judge rates completions aspect by aspect; `rating.check`: the checks rate them
- `reasking.replied`: replies as rows, asked for again where nothing could be read
- `readouts`: the sheet that a judge fills in. A module for each form of reply reads it: `readout_text`, `readout_json`,
  `readout_logprobs` and `readout_reward`. They share `readout_values`, which reads a single rating, and `wrapping`,
  which removes what models put around an answer
- `own_prompt`: a recipe's own prompt for a judge, with its parser; `own_format`: a trained judge's own format
- `checks`: judges that are programs
- `scoring.scores`: the ratings of several judges and aspects as one score, by one of `scoring.AGGREGATIONS`
- `scoring.stopped`: which completions did not pass a gate
- `guard.flagged`: completions that address a judge, or contain what only a template should
- `templates/`: a file for each aspect, and the request around it

It may import generation, and what generation may. It knows models only through `protocol`, never a backend.
"""
