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

# Percent by which loading one route more may cost more with 4,000 to 8,000 routes than with 1,000 to 2,000. Sorted maps grow
# by some percent; what looks at every pair of routes costs four times as much.
growth=25

# instructions STAGE TIMES
instructions() {
  local output
  output=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$@" 2>&1) || { echo "$output" >&2; return 1; }
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

# Loading a configuration, by route: linear in the routes, whatever they are.
between() { echo $((($(instructions load "$2") - $(instructions load "$1")) / ($2 - $1))); }
few=$(between 1000 2000) many=$(between 4000 8000)
printf '\nloading a route: %d instructions with 1,000 to 2,000 routes, %d with 4,000 to 8,000  (%+.1f %%)\n' "$few" "$many" \
  "$(awk -v a="$many" -v b="$few" 'BEGIN { print (a - b) * 100 / b }')"
grown=0
[ "$many" -le $((few + few * growth / 100)) ] || grown=1
# A request that none of them takes.
for routes in 10 10000; do
  once=$((($(instructions route "$routes" 50100) - $(instructions route "$routes" 100)) / 50000))
  printf 'finding a route beside %d others: %d instructions\n' "$routes" "$once"
done
if [ "$grown" -ne 0 ]; then
  echo "loading a configuration is not linear in its routes any more ($growth % more for each are allowed)" >&2
  exit 1
fi

if [ "${1:-}" = --save ]; then
  cp "$new" benches/counts.txt
elif [ "$failed" -ne 0 ] && [ "$profile" = bench ]; then
  echo "more instructions than benches/counts.txt allows ($tolerance %); if that is meant, save it with its reason" >&2
  exit 1
fi
