#!/usr/bin/env bash
# Train, evaluate, edit, report: the whole way from nothing to report.html, in a new folder under runs/quickstart/.
# `make quickstart` calls this; SHORT=1 takes fewer steps. The last two lines are the paths of metrics.json and report.html.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

MGIE=${MGIE:-mgie}
PYTHON=${PYTHON:-python}
experiment=quickstart
if [[ -n ${SHORT:-} ]]; then experiment=quickstart_short; fi

mkdir -p runs/quickstart
run=$PWD/runs/quickstart/$(date +%Y-%m-%d_%H-%M-%S)
mkdir "$run" # fails rather than write into an older run

"$MGIE" train "experiment=$experiment" "paths.run_dir='$run/train'"
"$MGIE" eval "checkpoint='$run/train'" data=photo_edits metrics=expressive "paths.run_dir='$run/eval'"

# A photograph that scikit-learn brings along and that photo_edits keeps for the test split.
photo=$("$PYTHON" -c 'from importlib.resources import files; print(files("sklearn.datasets") / "images" / "flower.jpg")')
"$MGIE" edit "$photo" "make it brighter" --model "$run/train" -o "$run/edited.png"

"$MGIE" report "$run/train" "$run/eval" -o "$run/report.html"

for made in "$run/eval/metrics.json" "$run/report.html"; do
  if [[ ! -s $made ]]; then
    echo "quickstart: expected $made, but no command wrote it" >&2
    exit 1
  fi
  echo "$made"
done
