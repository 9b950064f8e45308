#!/usr/bin/env bash
# What an exchange costs that is refused, by callgrind over the whole process: a key that nobody has against a key
# whose secret is wrong. A guesser must not be able to tell them apart by time. Called by scripts/bench --timing.
set -euo pipefail
cd "$(dirname "$0")/.."

# Percent by which the two may differ.
tolerance=1

target=${CARGO_TARGET_DIR:-target}
durward=$target/dist/durward relay=$target/dist/examples/relay
work=$(mktemp -d "${TMPDIR:-/tmp}/durward-timing.XXXXXX")
pid=
finish() {
  [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

port=$("$relay" port)
# The example as it is, but for its address and its limit, which would answer in its place.
mkdir "$work/upstreams"
cp examples/heldsway/upstreams/*.toml "$work/upstreams/"
sed -e "s|127.0.0.1:8080|127.0.0.1:$port|; /^limits = /d" -e "1i workers = 1" examples/heldsway/gateway.toml > "$work/gateway.toml"
valgrind --tool=callgrind --callgrind-out-file="$work/counts" "$durward" serve --config "$work/gateway.toml" > "$work/log" 2>&1 &
pid=$!
for _ in $(seq 600); do
  "$durward" tenants create acme --config "$work/gateway.toml" > /dev/null 2>&1 && break
  read -rt 0.2 <> <(:) || true
done
made=$("$durward" keys create --surface credentials --tenant acme --json --config "$work/gateway.toml")
known=$(sed -n 's/.*"key": *"\([^"]*\)".*/\1/p' <<< "$made")
[ -n "$known" ] || { echo "no key was made: $made" >&2; exit 1; }

# load KEY: refused exchanges for some seconds; tells how many.
load() {
  cat > "$work/load.lua" <<LUA
wrk.method = "POST"
wrk.path = "/api/v1/auth/token"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Host"] = "api.example.com"
wrk.body = '{"api_key":"$1","api_secret":"$wrong"}'
LUA
  wrk -t1 -c1 -d "$2s" -s "$work/load.lua" "http://127.0.0.1:$port" > "$work/wrk"
  # Every answer has to be the refusal.
  local all refused
  all=$(awk '/requests in/ { print $1 }' "$work/wrk")
  refused=$(awk '/Non-2xx/ { print $NF }' "$work/wrk")
  [ "$all" = "${refused:-0}" ] || { echo "$all requests, ${refused:-0} of them refused" >&2; exit 1; }
  echo "$all"
}

dumps=0
dump() {
  callgrind_control -d "$pid" > /dev/null 2>&1
  dumps=$((dumps + 1))
  for _ in $(seq 200); do
    grep -q '^totals:' "$work/counts.$dumps" 2>/dev/null && break
    read -rt 0.05 <> <(:) || true
  done
  counted=$(awk '/^totals:/ { sum += $2 } END { printf "%d", sum }' "$work/counts.$dumps")
}

wrong=$("$relay" mint hs_secret_)
unknown=$("$relay" mint hs_key_)
load "$known" 2 > /dev/null
load "$unknown" 2 > /dev/null
dump
for round in 1 2 3; do
  for which in unknown known; do
    n=$(load "${!which}" 6)
    dump
    awk -v c="$counted" -v n="$n" 'BEGIN { printf "%.0f\n", c / n }' >> "$work/$which"
    printf 'round %s, %-7s key: %s instructions for a refusal (%s of them)\n' "$round" "$which" "$(tail -1 "$work/$which")" "$n"
  done
done
median() { sort -n "$1" | sed -n 2p; }
awk -v a="$(median "$work/unknown")" -v b="$(median "$work/known")" -v t="$tolerance" 'BEGIN {
  d = (a - b) * 100 / b; printf "unknown key %d, wrong secret %d: %+.2f %%\n", a, b, d
  exit !(d <= t && d >= -t)
}'
