#!/usr/bin/env bash
# usage: tests/compat/run.sh lowest|highest [PYTEST ARGUMENTS]
# Test what matters (training, resume, edits, evaluation, checkpoints, configs) with the lowest or the newest versions that
# pyproject.toml allows, in an environment of its own that is removed afterwards. Needs `uv` (pip has no lowest versions) and,
# where PyPI's torch brings CUDA along, some GB; uv's own variables hold: UV_TORCH_BACKEND=cpu, UV_FIND_LINKS, UV_CONSTRAINT.
set -euo pipefail
cd "$(dirname "$0")/../.."
case "${1:-}" in
  lowest) resolution=lowest-direct ;;
  highest) resolution=highest ;;
  *) sed -n 2,5p "$0" >&2; exit 2 ;;
esac
name=$1
shift
uv=${UV:-uv}
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT

tools=$("${PYTHON:-python3}" - <<'PYTHON'
import re, tomllib

extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
wanted = {"beartype", "hypothesis", "pytest", "pytest-timeout", "pytest-xdist"}
print(*(one for one in extras["dev"] if re.split(r"[=<>!~ ]", one)[0] in wanted))
PYTHON
)
"$uv" venv -q --python "${PYTHON:-python3}" "$environment"
# --compile-bytecode: as pip does; else every start compiles all imports where PYTHONDONTWRITEBYTECODE is set
# shellcheck disable=SC2086 # several requirements
"$uv" pip install -q --compile-bytecode --python "$environment/bin/python" --resolution "$resolution" -e '.[sweep]' \
  $tools
echo "== $name:" "$("$uv" pip freeze -q --python "$environment/bin/python" \
  | grep -E '^(torch|lightning|transformers|diffusers|numpy|pillow|pandas|torchmetrics|hydra-core)==' | tr '\n' ' ')"
"$environment/bin/python" -c "
import importlib.util
assert importlib.util.find_spec('torchvision') is None, 'torchvision came along: docs/decisions/0003-no-torchvision.md'"

# the one deselected test compares with a private function of torchmetrics that its older versions do not have
OMP_NUM_THREADS=1 "$environment/bin/python" -m pytest -q -p no:cacheprovider -n "${JOBS:-2}" --dist loadfile \
  --deselect tests/metrics/test_lpips.py::test_equals_torchmetrics_on_the_same_backbone \
  tests/test_editor.py tests/test_pipeline.py tests/test_prompts.py tests/test_faults.py tests/models tests/guides \
  tests/sampling tests/checkpoints tests/training tests/config tests/data tests/metrics tests/evaluation tests/report \
  tests/cli "$@"
