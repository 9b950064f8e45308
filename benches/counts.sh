#!/usr/bin/env bash
# Instructions of each stage for one request, by callgrind, against benches/counts.txt; called by scripts/bench --counts.
# The set-up is counted away: a run of 50,100 iterations less one of 100, divided by 50,000. It varies by some millions
# of instructions (hash maps are seeded anew in each process), so fewer iterations would show that and not the stage.
set -euo pipefail
cd "$(dirname "$0")/.."

# Above this many percent more than the file says, the run fails. The least of three runs counts; what is left varies
# by one or two percent.
tolerance=4

# By the profile `bench`, which is that of what is shipped, or by `release`.
profile=bench
[ "${1:-}" != --plain ] || profile=release
binary=$(cargo bench --profile "$profile" --bench counts --no-run --message-format json 2> /dev/null | sed -n 's|.*"executable":"\([^"]*/counts-[^"]*\)".*|\1|p' | tail -1)
[ -x "$binary" ] || { cargo bench --profile "$profile" --bench counts --no-run; echo "the benchmark was not built" >&2; exit 1; }

# instructions STAGE TIMES
instructions() {
  local output
  output=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$1" "$2" 2>&1) || { echo "$output" >&2; return 1; }
  sed -n 's/.*Collected : \([0-9]*\).*/\1/p' <<< "$output"
}

new=$(mktemp)
trap 'rm -f "$new"' EXIT
printf '# Instructions for one request, by stage (scripts/bench --counts --save).\n' > "$new"
failed=0
for stage in $("$binary"); do
  count=
  for _ in 1 2 3; do
    few=$(instructions "$stage" 100) && many=$(instructions "$stage" 50100) || {
      echo "$stage: there is no count" >&2
      exit 1
    }
    once=$(((many - few) / 50000))
    if [ -z "$count" ] || [ "$once" -lt "$count" ]; then count=$once; fi
  done
  echo "$stage $count" >> "$new"
  before=$(awk -v s="$stage" '$1 == s { print $2 }' benches/counts.txt 2> /dev/null || true)
  if [ -z "$before" ]; then
    printf '%-12s %8d  (new)\n' "$stage" "$count"
  else
    printf '%-12s %8d  %+.1f %%\n' "$stage" "$count" "$(awk -v a="$count" -v b="$before" 'BEGIN { print (a - b) * 100 / b }')"
    if [ "$count" -gt $((before + before * tolerance / 100 + 5)) ]; then failed=1; fi
  fi
done
if [ "${1:-}" = --save ]; then
  cp "$new" benches/counts.txt
elif [ "$failed" -ne 0 ] && [ "$profile" = bench ]; then
  echo "more instructions than benches/counts.txt allows ($tolerance %); if that is meant, save it with its reason" >&2
  exit 1
fi
