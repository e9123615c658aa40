"""Judging: completions -> ratings, and ratings -> one score for each completion.

It offers:

- `rating.rate`: one judge rates completions aspect by aspect; `rating.check`: what programs say of them
- `readouts`: the sheet that a judge fills in, and beside it a reader for each form of reply: `readout_text`,
  `readout_json`, `readout_logprobs` and `readout_reward`. They share `readout_values`, which reads one rating as it is
  written, and `wrapping`, which takes off what models put around an answer
- `prompts`: a judge's prompt of one's own, with its parser
- `checks`: judges that are programs
- `scoring.scores`: the ratings of several judges and aspects as one score, by one of `scoring.AGGREGATIONS`
- `scoring.stopped`: gates not passed
- `guard.flagged`: completions that speak to a judge, or hold what only a template should
- `templates/`: a file for each aspect, and the request around it

It may import generation, and what generation may. It knows a model by `protocol` alone, never a backend.
"""
