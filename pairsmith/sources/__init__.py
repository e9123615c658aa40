"""Sources: rows of files, databases, data sets and web addresses -> prompts in shards, and completions that they bring.

It offers:

- `prompts.read_prompts`: all rows of a recipe's sources as prompts or rejections; `prompts.to_prompt`: one row
- `layouts`: what a row asks, by the layouts of known data sets; `chats`: chats in all forms that these have
- `unread`: columns that are filled and not read; `inspection`: a look at a file; `keeping`: columns that go along
- `readers`: the rows of files and data sets; `sql`: those of a database; `http`: files fetched from the web;
  `hub`: whether the hub has a data set; `row_fields`: the value at a column, path or template, and `Refused`
- `given_completions`: completions and ratings that rows bring, as rows of the tables; `merging`: the rows of one prompt
  become one
- `overlap`: prompts that come from benchmarks, and near duplicates
- `sharding`: prompts written to immutable shards; `cache`: notes about source files, so that unchanged ones are not
  parsed again

It may import judging, and what judging may.
"""
