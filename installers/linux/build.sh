#!/usr/bin/env bash
# Freezes the program into dist/radiolucent/ with an environment of its own, so that nothing of a developer's gets in.
#
# TORCH names the requirement for PyTorch: a CPU build. Where pip finds only builds with CUDA, set PIP_FIND_LINKS or
# PIP_EXTRA_INDEX_URL to where the CPU builds lie, or TORCH to a wheel file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

torch=${TORCH:-torch==2.13.0}
python=${PYTHON:-python3}
venv=build/installer-venv
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --progress-bar off)

"$python" installers/check_system.py test
if [ ! -x "$venv/bin/python" ]; then
    echo "Making $venv"
    "$python" -m venv "$venv"
fi

# torchvision is left out: the program does not need it, and there is none for CPU builds outside PyTorch's own index.
echo "Installing $torch and the rest into $venv"
"${pip[@]}" "$torch"
"$venv/bin/python" - <<'PY'
import sys, torch
if torch.version.cuda is not None:
    sys.exit(f"radiolucent: torch {torch.__version__} is built with CUDA, which makes a folder of several gigabytes; "
             "set TORCH to a CPU build (see installers/linux/build.sh)")
PY
mapfile -t requirements < <("$venv/bin/python" - <<'PY'
import re, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
wanted = project["dependencies"] + project["optional-dependencies"]["installer"]
print("\n".join(r for r in wanted if re.match(r"[\w-]+", r).group() not in ("torch", "torchvision")))
PY
)
"${pip[@]}" "${requirements[@]}" hatchling
"${pip[@]}" --no-deps --no-build-isolation --force-reinstall .

echo "Freezing"
rm -rf dist/radiolucent
"$venv/bin/python" -m PyInstaller --noconfirm --log-level WARN --distpath dist --workpath build/pyinstaller \
    installers/linux/radiolucent.spec
du -sh dist/radiolucent | awk '{print "dist/radiolucent: " $1}'
bash installers/linux/check.sh dist/radiolucent
