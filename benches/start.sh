#!/usr/bin/env bash
# How long `durward check` and a start take by the number of routes, and what routes cost a request that they do not take.
# Called by scripts/bench --start with the program, the relay of the benchmarks, and the number of rounds.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. benches/lib.sh

gateway=$1 relay=$2 rounds=$3

work_folder start
start_upstream

# configure NAME ROUTES FILES HOST: a configuration with so many routes, spread over so many services. HOST is what each route
# adds to its keys, with @N@ for its number.
configure() {
  local folder=$work/$1 port
  port=$(free_port)
  mkdir -p "$folder/upstreams"
  # One worker and no waiting at the end, so that starts follow each other.
  {
    sed -e "s|@PORT@|$port|" benches/peers/gateway.toml
    printf 'drain_delay = "0s"\ndrain_timeout = "0s"\n'
  } > "$folder/gateway.toml"
  sed -e "s|@UPSTREAM@|$upstream|" benches/peers/upstream.toml > "$folder/upstreams/main.toml"
  awk -v n="$(($2 - 1))" -v files="$3" -v host="$4" -v folder="$folder/upstreams" -v upstream="$upstream" 'BEGIN {
    for (i = 0; i < n; i++) {
      file = sprintf("%s/service%05d.toml", folder, i % files)
      if (i < files) printf "endpoints = [\"http://127.0.0.1:%s\"]\n", upstream > file
      own = host
      gsub(/@N@/, i, own)
      printf "\n[[routes]]\npath = \"/api/v1/items%d/{id}\"\nmethods = [\"GET\", \"POST\"]\n%saccess = { surfaces = [\"api\"], scopes = [\"items:read\"] }\n", i, own > file
    }
  }'
  echo "$port" > "$folder/port"
}

now() { echo "${EPOCHREALTIME/./}"; }
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# start NAME: until the gateway accepts connections; its process is left in $started.
start() {
  local port i
  port=$(cat "$work/$1/port")
  "$gateway" serve --config "$work/$1/gateway.toml" > "$work/$1/log" 2>&1 & started=$!
  pids+=("$started")
  for ((i = 0; i < 30000; i++)); do
    listens "$port" && return
    kill -0 "$started" 2>/dev/null || break
    read -rt 0.002 <> <(:) || true
  done
  tail -3 "$work/$1/log" >&2
  echo "the gateway did not start" >&2
  return 1
}

# milliseconds FUNCTION: the median of all rounds.
milliseconds() {
  local i before
  for ((i = 0; i < rounds; i++)); do
    before=$(now)
    "$@" > /dev/null
    echo $(($(now) - before))
    [ -z "${started:-}" ] || { kill "$started"; wait "$started" || true; started=; }
  done | median | awk '{ printf "%.0f", $1 / 1000 }'
}
check() { "$gateway" check --config "$work/$1/gateway.toml"; }

heading "milliseconds, medians of $rounds"
printf '| %-34s | %8s | %8s |\n' configuration check start
printf '|------------------------------------|----------|----------|\n'
row() {
  configure "$1" "$3" "$4" "$5"
  # The first start makes the store and its secrets.
  start "$1" && kill "$started" && wait "$started" || true
  started=
  printf '| %-34s | %8s | %8s |\n' "$2" "$(milliseconds check "$1")" "$(milliseconds start "$1")"
}
row r10 '10 routes' 10 1 ''
row r1000 '1,000 routes' 1000 1 ''
row r10000 '10,000 routes' 10000 1 ''
row r20000 '20,000 routes' 20000 1 ''
row files '10,000 routes of 100 services' 10000 100 ''
row services '10,000 routes of 1,000 services' 10000 1000 ''
row hosts '10,000 routes, a host each' 10000 1 'hosts = ["tenant@N@.example.com"]\n'

heading "CPU of a request that a route of its own takes, beside 9 and beside 9,999 others"
for name in r10 r10000; do
  start "$name"
  pid[$name]=$started port[$name]=$(cat "$work/$name/port")
  taskset -a -p -c 0 "$started" > /dev/null
  "$relay" keys "$work/$name/state/admin.sock" 200 > "$work/$name/keys"
done
for ((round = 0; round <= rounds; round++)); do
  for name in $(shuf -e r10 r10000); do
    before=$(cpu "${pid[$name]}")
    requests=$(wrk_requests "$name" "http://127.0.0.1:${port[$name]}" "$work/$name/keys" 4)
    used=$(($(cpu "${pid[$name]}") - before))
    # The first round warms up.
    [ "$round" -eq 0 ] || microseconds "$used" "$requests" >> "$work/$name.figures"
  done
done
paste -d' ' "$work/r10.figures" "$work/r10000.figures" | awk '{ printf "%.4f\n", $2 / $1 }' > "$work/ratios"
printf '10 routes %s us, 10,000 routes %s us; ratio in the same round: median %s, %s\n' "$(median < "$work/r10.figures")" \
  "$(median < "$work/r10000.figures")" "$(median < "$work/ratios")" "$(spread < "$work/ratios")"
