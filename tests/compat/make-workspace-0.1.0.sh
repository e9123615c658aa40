#!/bin/sh
# Makes workspace-0.1.0.tar.xz, the workspace that test_workspace.py opens: its data set, its recipe and its prompts.
#
#   git worktree add ../pairsmith-0.1.0 43668c7
#   sh tests/compat/make-workspace-0.1.0.sh ../pairsmith-0.1.0 tests/compat/workspace-0.1.0.tar.xz
#
# It has been made once, by commit 43668c7, and stays as it is: made by later code it would prove nothing. A later
# format gets an archive of its own beside it.
set -eu
code=$(realpath "$1")
archive=$(realpath -m "$2")
export PYTHONPATH="$code" LOGNAME=editor USER=editor PREFECT_LOGGING_LEVEL=ERROR
rm -rf /srv/example
mkdir -p /srv/example
cd /srv/example # the name that stands in the files; the test moves the folder to another place

cat > recipe.yaml <<'END'
name: small
description: A small data set with a little of everything, by the echo backend.
workspace: data
shard_size: 4
prompts:
  sources:
    - path: prompts.jsonl
pool:
  members:
    - {name: brief, backend: echo, model: echo-brief, price: {prompt: 1.0, completion: 2.0}}
    - {name: long, backend: echo, model: echo-long, samples: 2, principles: {weights: {default: {helpfulness: 1, honesty: 1}}}}
evolution:
  rounds: 1
  of: [brief]
  evolver: {backend: echo, model: echo-evolver}
rating:
  aspects: [helpfulness, honesty]
  judges:
    - {name: reader, backend: echo, model: echo-reader, orders: 2}
    - {name: digits, backend: echo, model: echo-digits, protocol: pointwise, readout: logprobs, weight: 2.0}
    - {name: fields, backend: echo, model: echo-fields, readout: json, aspects: [honesty], critique: true}
  checks:
    - {name: tidy, kind: regex, pattern: '\s{4}', negate: true, gate: true}
    - {name: answer, kind: exact-match, last_number: true}
pairing:
  strategy: all-above-margin
  max_pairs: 3
  min_margin: 0.1
  length_control: true
  guard: {on_flag: not-chosen, repeated: 2}
publishing:
  test_fraction: 0.3
  exports: [kto, csv]
  license: apache-2.0
  approval: required
END
cat > prompts.jsonl <<'END'
{"prompt": "Why is the sky blue?"}
{"prompt": "What is 6 times 7?", "reference": "42"}
{"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello! What shall we do?"}, {"role": "user", "content": "Où est le café ?\r\n日本語で 👩‍🚀"}]}
{"prompt": "=1+1, said the spreadsheet", "source": "sheets"}
{"prompt": "Answer without a form [echo: garbage]"}
{"prompt": "Answer with nothing [echo: empty]"}
{"prompt": "Why is the sky blue?\r\n"}
{"prompt": "   "}
END

pairsmith() {
    python -m flows "$@"
}
pairsmith run recipe.yaml
pairsmith release data/small --reason "the first version reads well"
cat >> prompts.jsonl <<'END'
{"prompt": "Name three rivers.", "system_prompt": "Answer in one line."}
{"prompt": "Which is heavier, a kilo of iron or of feathers?", "reference": "1"}
{"prompt": "Again without a form [echo: garbage]"}
{"prompt": "Go on and on [echo: long]"}
END
pairsmith run recipe.yaml
pairsmith release data/small --reason "more prompts"
pairsmith run recipe.yaml --set pairing.strategy=best-vs-worst
pairsmith reject data/small --reason "one pair a prompt is too few"
pairsmith run recipe.yaml # publishes nothing: what it would publish is `latest`

python - <<'END'
import sqlite3

with sqlite3.connect("data/ledger.sqlite") as ledger:
    assert ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
END
rm -f data/ledger.sqlite-wal data/ledger.sqlite-shm
tar --sort=name --owner=0 --group=0 --numeric-owner -cJf "$archive" recipe.yaml prompts.jsonl data
