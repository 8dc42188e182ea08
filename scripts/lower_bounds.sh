#!/usr/bin/env bash
# Runs the fast tests with the lowest versions that pyproject.toml allows, in an environment of its own.
# Takes some GB and longer than the gate: run it after a change of the dependencies. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
python3 -m venv "$environment"
PATH="$environment/bin:$PATH"
python -m pip install --quiet --disable-pip-version-check uv
index=$(python -m pip config get global.index-url 2>/dev/null || true) # uv does not read what pip is set to
[ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
export UV_CACHE_DIR="$environment/cache"
uv pip install --quiet --python "$environment/bin/python" --resolution lowest-direct --editable ".[dev]"
uv pip freeze --python "$environment/bin/python"
python -m pytest -m "not slow" --numprocesses 2 --dist loadscope --no-loadscope-reorder "$@"
