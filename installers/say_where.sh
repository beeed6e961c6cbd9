#!/usr/bin/env bash
# After `make run` without a display: where the results of an analysis lie, and what the model said.
set -euo pipefail
folder=${1:?usage: say_where.sh FOLDER}
echo
[ -f "$folder/report.pdf" ] && echo "Report:    $folder/report.pdf"
for overlay in "$folder"/*.png; do
    [ -f "$overlay" ] && echo "Overlay:   $overlay"
done
echo "Figures:   $folder/analysis.json"
