#!/usr/bin/env bash
# durward beside nginx and HAProxy, all that has an aim, in one table: requests plain, over TLS and over HTTP/2, handshakes, session
# tokens, memory, and how long callers wait at half load. Then benches/start.sh. Called by scripts/bench --table with the program,
# the folder of the examples, the number of rounds, the seconds of each measurement, and further peers.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. benches/lib.sh

gateway=$1 examples=$2 rounds=$3 seconds=$4
shift 4
peers=(nginx haproxy "$@")
relay=$examples/relay
keys=10000 lookups=20000 idle=2000

for program in "$gateway" "$relay" "$examples/clients"; do
  [ -x "$program" ] || { echo "$program is not there" >&2; exit 1; }
done
ulimit -n "$(ulimit -Hn)"
# The floor has two descriptors for each connection, and so has the client.
[ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge $((2 * idle + 500)) ] ||
  { echo "$(ulimit -n) descriptors are too few for $idle connections (ulimit -n)" >&2; exit 1; }

work_folder table
mkdir "$work/figures"
start_upstream
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=api.example.com \
  -addext subjectAltName=DNS:api.example.com -keyout "$work/tls.key" -out "$work/tls.crt" 2> "$work/openssl.log"
cat "$work/tls.crt" "$work/tls.key" > "$work/tls.pem"
openssl rand -hex 32 > "$work/secret"

# busy: in percent, how much of the processors is used. Nothing of ours runs yet.
busy() {
  local before after
  read -r _ before < /proc/stat
  sleep 1
  read -r _ after < /proc/stat
  echo "$before $after" | awk '{ n = NF / 2; for (i = 1; i <= 8; i++) all += $(i + n) - $i; idle = $(4 + n) + $(5 + n) - $4 - $5
    printf "%d", 100 * (all - idle) / all }'
}
used=$(busy)
[ "$used" -lt 10 ] || echo "other programs use $used % of the processors: what is measured now says little" >&2

path=/api/v1/transactions/txn_123
clients() { taskset -c 1 "$examples/clients" "$@"; }

# ports NAME: its ports, chosen anew.
ports() { port[$1]=$(free_port) secure_port[$1]=$(free_port); }

# configure NAME [SETTINGS]: a gateway on the ports of this name, with further settings.
configure() {
  mkdir -p "$work/$1/upstreams"
  {
    sed -e "s|@PORT@|${port[$1]}|" benches/peers/gateway.toml
    printf 'connections_per_address = 1000000\n\n[[listeners]]\nname = "secure"\naddress = "127.0.0.1:%s"\n' "${secure_port[$1]}"
    printf 'tls = { certificates = [{ cert = "%s", key = "file:%s" }] }\n\n%s\n' "$work/tls.crt" "$work/tls.key" "${2:-}"
  } > "$work/$1/gateway.toml"
  sed -e "s|@UPSTREAM@|$upstream|" benches/peers/upstream.toml > "$work/$1/upstreams/main.toml"
}

heading "$lookups keys of $lookups tenants, made by durward"
ports durward
configure durward
serve_durward durward
wait_for "${port[durward]}"
"$relay" keys "$work/durward/state/admin.sock" "$lookups" > "$work/all.txt"
stop durward
head -n "$keys" "$work/all.txt" > "$work/keys.txt"
"$relay" tokens "$work/secret" "$work/keys.txt" "$(date +%s)" > "$work/tokens.txt"
key=$(sed -n '7s/ .*//p' "$work/keys.txt")
maps_of "$work/keys.txt"

# Gateways with the same records: one that takes keys and tokens, and one that is started anew for each measurement of memory.
mkdir "$work/sessions" "$work/fresh"
cp -r "$work/durward/state" "$work/sessions/"
cp -r "$work/durward/state" "$work/fresh/"
ports sessions
configure sessions "[surfaces.portal]
kind = \"session_jwt\"
token_kind = \"portal_session\"
secrets = [\"file:$work/secret\"]
record_surface = \"api\"
scopes_claim = \"perms\"
claim_headers = { tid = \"X-Transaction-Id\", role = \"X-Auth-Role\", perms = \"X-Auth-Permissions\" }"
sed -i 's/\["api"\]/["api", "portal"]/' "$work/sessions/upstreams/main.toml"

secured=("${peers[@]}" durward)
serve_durward durward
serve_durward sessions
for name in floor "${peers[@]}"; do
  ports "$name"
  [ "$name" != floor ] || unset 'secure_port[floor]'
  "start_$name"
done
for name in floor "${secured[@]}" sessions; do
  wait_for "${port[$name]}"
  for address in "http://127.0.0.1:${port[$name]}" ${secure_port[$name]:+"https://127.0.0.1:${secure_port[$name]}"}; do
    curl -kfsS -o /dev/null -H "Authorization: Bearer $key" -H "Host: api.example.com" "$address$path" || { echo "$name does not answer" >&2; exit 1; }
  done
done

# record ROW NAME VALUE UNIT [REMARK]: one measurement.
record() {
  echo "$3" >> "$work/figures/$1.$2"
  printf '%-8s %-9s %s %s%s\n' "$1" "$2" "$3" "$4" "${5:+, $5}"
}

# by_wrk ROW NAME PROCESS URL KEYS: CPU of a request. The same load comes a second before, since facts grow too old between rounds.
by_wrk() {
  local before requests used figure
  requests=$(wrk_requests "$3" "$4" "$5" 1)
  before=$(cpu "${pid[$3]}")
  requests=$(wrk_requests "$3" "$4" "$5" "$seconds")
  used=$(($(cpu "${pid[$3]}") - before))
  figure=$(microseconds "$used" "$requests")
  record "$1" "$2" "$figure" us "$((requests / seconds)) requests/s"
  echo "$((requests / seconds))" >> "$work/figures/$1-rate.$2"
}

# by_handshakes ROW NAME full|resumed: CPU of a connection with one request.
by_handshakes() {
  local before answered requests resumed used figure
  before=$(cpu "${pid[$2]}")
  answered=$(clients handshakes "${secure_port[$2]}" "$work/keys.txt" "$seconds" "$3")
  used=$(($(cpu "${pid[$2]}") - before))
  read -r requests resumed <<< "$answered"
  figure=$(microseconds "$used" "$requests")
  record "$1" "$2" "$figure" us "$((requests / seconds)) requests/s, $resumed of $requests resumed"
  # Each of sixteen callers begins without a ticket.
  if [ "$3" = resumed ] && [ $((resumed * 100)) -lt $(((requests - 16) * 98)) ]; then touch "$work/figures/$1.$2.refused"; fi
  [ "$3" = resumed ] || [ "$resumed" -eq 0 ]
}

# by_h2load ROW NAME: CPU of a request over HTTP/2.
by_h2load() {
  local before requests used figure
  before=$(cpu "${pid[$2]}")
  taskset -c 1 h2load -t1 -c4 -m32 -D "$seconds" -H "authorization: Bearer $key" -H ":authority: api.example.com" \
    "https://127.0.0.1:${secure_port[$2]}$path" > "$work/h2load.out"
  used=$(($(cpu "${pid[$2]}") - before))
  requests=$(awk '/^status codes:/ { print $3 }' "$work/h2load.out")
  grep -q '^Application protocol: h2$' "$work/h2load.out" && grep -q '^TLS Protocol: TLSv1.3$' "$work/h2load.out" &&
    grep -q '^status codes: [0-9]* 2xx, 0 3xx, 0 4xx, 0 5xx$' "$work/h2load.out" &&
    grep -q '^requests: .* 0 failed, 0 errored, 0 timeout$' "$work/h2load.out" || { echo "$2 over HTTP/2:" >&2; cat "$work/h2load.out" >&2; return 1; }
  figure=$(microseconds "$used" "$requests")
  record "$1" "$2" "$figure" us "$((requests / seconds)) requests/s"
}

for ((round = 1; round <= rounds; round++)); do
  heading "round $round of $rounds"
  for name in $(shuf -e floor "${secured[@]}"); do by_wrk X1 "$name" "$name" "http://127.0.0.1:${port[$name]}" "$work/keys.txt"; done
  for name in $(shuf -e "${secured[@]}"); do by_wrk X2 "$name" "$name" "https://127.0.0.1:${secure_port[$name]}" "$work/keys.txt"; done
  for name in $(shuf -e "${secured[@]}"); do by_handshakes X3 "$name" full; done
  for name in $(shuf -e "${secured[@]}"); do by_handshakes X3-again "$name" resumed; done
  for name in $(shuf -e "${secured[@]}"); do by_h2load X4 "$name"; done
  for name in $(shuf -e keys tokens); do by_wrk X5 "$name" sessions "http://127.0.0.1:${port[sessions]}" "$work/$name.txt"; done
done

rate=$(for name in nginx haproxy; do median < "$work/figures/X1-rate.$name"; done | sort -n | awk 'NR == 1 { printf "%d", $1 / 2 }')
heading "$rate requests a second, half of what the slower peer can do"
for ((round = 1; round <= rounds; round++)); do
  for name in $(shuf -e floor "${secured[@]}"); do
    waits=$(clients load "${port[$name]}" "$work/keys.txt" "$rate" "$seconds")
    read -r half hundredth thousandth counted <<< "$waits"
    record X8 "$name" "$thousandth" ms "p50 $half, p99 $hundredth, $counted requests"
  done
done

# resident PID: resident memory of the process and its children, in KiB.
resident() {
  local p
  for p in $(processes "$1"); do awk '/^VmRSS/ { print $2 }' "/proc/$p/status"; done | awk '{ sum += $1 } END { print sum }'
}

# hold COUNT KIND: connections of a client that were answered once and wait, until let_go.
hold() {
  local to=${port[fresh]} ready
  [ "$2" = plain ] || to=${secure_port[fresh]}
  coproc holder { exec taskset -c 1 "$examples/clients" idle "$to" "$work/$idle_keys" "$1" "$2"; }
  held=$holder_PID holding=${holder[1]}
  read -r ready <&"${holder[0]}"
  sleep 1
}
let_go() {
  exec {holding}>&-
  wait "$held"
  sleep 1
}

# renew CONTESTANT [SETTINGS]: a process of its own, which has met fifty connections of each kind that is asked for later.
renew() {
  ports fresh
  if [ "$1" = durward ]; then
    configure fresh "${2:-}"
    serve_durward fresh
  else
    [ "$1" != floor ] || unset 'secure_port[fresh]'
    "start_$1" fresh
  fi
  wait_for "${port[fresh]}"
}

# idle_memory NAME KIND: KiB of a connection that waits.
idle_memory() {
  local before after idle_keys=keys.txt
  [ "$1" != durward ] || idle_keys=own.txt
  renew "$1"
  hold 50 "$2"
  let_go
  before=$(resident "${pid[fresh]}")
  hold "$idle" "$2"
  after=$(resident "${pid[fresh]}")
  let_go
  stop fresh
  [ "$after" -ge "$before" ] || { echo "$1 has less memory with connections ($after KiB) than before ($before KiB)" >&2; return 1; }
  record "X7-$2" "$1" "$(awk -v a="$after" -v b="$before" -v n="$idle" 'BEGIN { printf "%.2f", (a - b) / n }')" KiB "$before to $after KiB"
}

# lookup_memory ENTRIES: by how many KiB durward grows when all keys are looked up and so many are remembered; sets `grown`.
lookup_memory() {
  local before after idle_keys=keys.txt
  renew durward "[store]
cache_entries = $1"
  hold 50 plain
  let_go
  before=$(resident "${pid[fresh]}")
  clients lookups "${port[fresh]}" "$work/all.txt" > "$work/lookups.out"
  sleep 1
  after=$(resident "${pid[fresh]}")
  stop fresh
  grown=$((after - before))
}

heading "memory"
# One key is used. What reading ten thousand leaves free in a process would hide what its connections take.
sed -n 1p "$work/keys.txt" > "$work/one.txt"
maps_of "$work/one.txt"
mv "$work/fresh/state" "$work/full"
for ((round = 1; round <= (rounds < 2 ? rounds : 2); round++)); do
  # Of one key: what a start needs for twenty thousand is given back at any time later.
  rm -rf "$work/fresh/state"
  renew durward
  "$relay" keys "$work/fresh/state/admin.sock" 1 > "$work/own.txt"
  stop fresh
  for kind in plain tls h2; do
    for name in $([ "$kind" != plain ] || echo floor) $(shuf -e "${secured[@]}"); do idle_memory "$name" "$kind"; done
  done
  rm -rf "$work/fresh/state"
  cp -r "$work/full" "$work/fresh/state"
  # What reading the store costs is there whatever is remembered, above all pages of its file.
  lookup_memory 1000
  read_only=$grown
  lookup_memory 100000
  record X7-key durward "$(awk -v a="$grown" -v b="$read_only" -v n="$((lookups - 1000))" 'BEGIN { printf "%.0f", (a - b) * 1024 / n }')" B \
    "$grown KiB for $lookups, $read_only KiB when 1,000 are remembered"
done

# figures ROW NAME: the file of its measurements.
figures() { echo "$work/figures/$1.$2"; }

# row NAME ROW FIGURE AIM UNIT SUBJECT PEER...: a line of the table. The ratio of each round is to the better of the peers in it. An aim with
# a unit is one for the figure, any other for the ratio; `-` is none.
row() {
  local name=$1 file=$2 figure=$3 aim=$4 unit=$5 subject=$6 own ratio=- best=- peer peers=() judged result=-
  shift 6
  if [ -e "$(figures "$file" "$subject").refused" ]; then
    echo "| $name | $figure | not resumed | - | - | $aim | missed |"
    return
  fi
  own=$(median < "$(figures "$file" "$subject")")
  : > "$work/ratios"
  for peer in "$@"; do [ -e "$(figures "$file" "$peer").refused" ] || peers+=("$peer"); done
  if [ ${#peers[@]} -gt 0 ]; then
    best=$(for peer in "${peers[@]}"; do echo "$(median < "$(figures "$file" "$peer")") $peer"; done | sort -n |
      awk -v unit="$unit" 'NR == 1 { printf "%s %.4g %s", $2, $1, unit }')
    # What a peer needs nothing for has no ratio.
    paste -d' ' "$(figures "$file" "$subject")" $(for peer in "${peers[@]}"; do figures "$file" "$peer"; done) |
      awk '{ least = $2; for (i = 3; i <= NF; i++) if ($i < least) least = $i; if (least > 0) printf "%.4f\n", $1 / least }' > "$work/ratios"
  fi
  [ ! -s "$work/ratios" ] || ratio="$(median < "$work/ratios" | awk '{ printf "%.2f", $1 }') ($(spread < "$work/ratios"))"
  # 1e9: no ratio is not one that is good enough.
  case $aim in *" "*) judged=$own ;; *) judged=$([ -s "$work/ratios" ] && median < "$work/ratios" || echo 1e9) ;; esac
  [ "$aim" = - ] || result=$(awk -v v="$judged" -v aim="$aim" 'BEGIN { print (v <= aim + 0) ? "met" : "missed" }')
  [ "$aim" = - ] || aim="<= $aim"
  printf '| %s | %s | %.4g %s | %s | %s | %s | %s |\n' "$name" "$figure" "$own" "$unit" "$best" "$ratio" "$aim" "$result"
}

heading "the table: medians of $rounds rounds of $seconds s; ratios in the same round, with the least and the greatest"
echo "| | figure | durward | beside | ratio | aim | |"
echo "|---|---|---|---|---|---|---|"
row X1 X1 "CPU of a request with a key, to the floor" 1.25 us durward floor
row X1 X1 "the same to the best peer" 0.70 us durward "${peers[@]}"
row X2 X2 "CPU of a request over TLS 1.3, connection kept" 0.75 us durward "${peers[@]}"
row X3 X3 "CPU of a full handshake with one request" 0.50 us durward "${peers[@]}"
row X3 X3-again "the same, resumed" 0.50 us durward "${peers[@]}"
row X4 X4 "CPU of a request over HTTP/2 and TLS, to HAProxy" 0.85 us durward haproxy
row X4 X4 "the same to nginx" - us durward nginx
row X5 X5 "CPU of a request with a session token, to one with a key" 1.05 us tokens keys
row X7 X7-plain "memory of an idle connection, plain" "2 KiB" KiB durward "${peers[@]}"
row X7 X7-tls "memory of an idle connection, TLS" "14 KiB" KiB durward "${peers[@]}"
row X7 X7-h2 "memory of an idle connection, HTTP/2 over TLS" "15 KiB" KiB durward "${peers[@]}"
row X7 X7-key "memory of a remembered key" "700 B" B durward
row X8 X8 "p99.9 at half load ($rate requests/s)" 0.90 ms durward "${peers[@]}"

heading "what was measured"
printf '| %-8s | %-9s | %10s | %s |\n' row of median "least and greatest"
printf '|----------|-----------|------------|---|\n'
for file in "$work"/figures/X*; do
  [[ $file != *.refused ]] || continue
  measured=${file##*/}
  printf '| %-8s | %-9s | %10s | %s%s |\n' "${measured%.*}" "${measured##*.}" "$(median < "$file")" "$(spread < "$file")" \
    "$([ ! -e "$file.refused" ] || echo ', not resumed')"
done

# The rest needs the processors for itself.
finish
trap - EXIT
heading "X9, X10"
exec bash benches/start.sh "$gateway" "$relay" "$((rounds < 3 ? rounds : 3))"
