#!/usr/bin/env bash
# Proves that a frozen folder stands alone: copied elsewhere, the project's environment moved away, nothing in PATH but
# the system's tools; then selftest, the main job, and the window with its workers, offscreen.
set -euo pipefail
folder=$(cd "${1:?usage: check.sh FOLDER}" && pwd)
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

away=$(mktemp -d)
moved=()
restore() {
    local pair
    for pair in "${moved[@]}"; do mv "$pair.away" "$pair"; done
    rm -rf "$away"
}
trap restore EXIT
for environment in "$project/.venv" "$project/build/installer-venv"; do
    if [ -d "$environment" ]; then
        mv "$environment" "$environment.away"
        moved+=("$environment")
    fi
done

cp -a "$folder" "$away/radiolucent"
mkdir "$away/home" "$away/work"
cd "$away/work"
exe=$away/radiolucent/radiolucent
bare() { env -i "HOME=$away/home" PATH=/usr/bin:/bin LANG=C.UTF-8 QT_QPA_PLATFORM=offscreen "$@"; }
sample=$(find "$away/radiolucent" -name synthetic-consolidation.dcm)

echo "selftest"
bare "$exe" selftest

echo "analyze"
bare "$exe" analyze "$sample" --report --out out
test -s out/synthetic-consolidation/report.pdf
test -s out/synthetic-consolidation/analysis.json

echo "window"
marks=$(bare RADIOLUCENT_PROBE=1 timeout 120 "$exe" "$sample" 2>&1) || { echo "$marks" >&2; exit 1; }
for mark in window-shown image-visible; do
    grep "^$mark" <<<"$marks" || { echo "radiolucent: no $mark" >&2; echo "$marks" >&2; exit 1; }
done
sleep 2
if pgrep -f "$away/radiolucent" >/dev/null; then
    echo "radiolucent: processes are left over:" >&2
    pgrep -af "$away/radiolucent" >&2
    exit 1
fi
echo "stands alone"
