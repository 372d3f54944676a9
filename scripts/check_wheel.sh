#!/usr/bin/env bash
# Build the wheel, install it into an empty environment and run the README's main job from an empty
# folder. With --no-deps the environment borrows the packages of the current one: quick, no network.
#
#   scripts/check_wheel.sh
#   scripts/check_wheel.sh --no-deps
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ "${1:-}" = "--no-deps" ]; then
    python -m pip wheel --no-deps --no-build-isolation -w "$work/dist" .
    python -m venv "$work/venv"
    # Packages of the environment that calls, but not the checkout that it may have installed.
    python -c 'import site; print("\n".join(site.getsitepackages()))' \
        > "$("$work/venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')/borrowed.pth"
    "$work/venv/bin/python" -m pip install --no-deps "$work"/dist/*.whl
else
    python -m pip wheel --no-deps -w "$work/dist" .
    python -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install "$work"/dist/*.whl
fi

mkdir "$work/empty"
cd "$work/empty"
unset PYTHONPATH
"$work/venv/bin/python" -c "
import mattergen_lite, sys
assert mattergen_lite.__file__.startswith('$work'), mattergen_lite.__file__"
command=$(sed -n '/^mattergen-lite generate --num-candidates 16/p' "$OLDPWD/README.md" | head -n 1)
echo "+ $command"
eval "$work/venv/bin/$command"
for file in candidates.csv candidates.parquet report.html summary.json run.json; do
    test -s "results/$file"
done
test "$(find results/cifs -name '*.cif' | wc -l)" -ge 16
echo "the wheel works"
