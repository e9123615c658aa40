"""Reporting: what people look at: counts, tables, pictures, a data set's page and card, and how versions differ.

It offers:

- `summary.Summary`: what is counted of a run, added up over shards; `agreement.Trust`: how far judges can be trusted
- `summary_tables`: the counts as tables; `charts`: as pictures; `gates`: what a data set must be like to be published
- `page.render_report`: the HTML page; `page.render_markdown`, `card.render_card`, `samples.render_samples`: markdown
- `changelog`: what a version changes; `prompt_changes`: which prompts; `comparison.compare`: how two versions differ in
  pairs and scores; `word_diff`: how two texts do
- `markdown`, `ratios`: text and numbers as they may be shown; `templates/`: the pages

It may import sources and pairing, and what these may.
"""
