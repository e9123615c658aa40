"""Reporting: what people look at: counts, tables, charts, a data set's page and card, and differences of versions.

It offers:

- `summary.Summary`: the counts of a run, added up over shards; `agreement.Trust`: how far judges can be trusted
- `summary_tables`: the counts as tables; `charts`: as charts; `gates`: the quality that publishing requires
- `page.render_report`: the HTML page; `page.render_markdown`, `card.render_card`, `samples.render_samples`: markdown
- `changelog`: what a version changes; `prompt_changes`: which prompts it changes; `comparison.compare`: how the pairs
  and scores of two versions differ; `word_diff`: how two texts differ
- `markdown`, `ratios`: text and numbers in their displayed form; `templates/`: the pages

It may import sources and pairing, and whatever those may import.
"""
