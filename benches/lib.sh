# Shared by scripts/bench and the scripts of this folder: a folder to work in, contestants, figures. Expects $relay, the example.

# work_folder NAME: a folder $work, in memory where possible, because making keys waits for the disk once for each. It goes
# with the script, and so do the processes that are noted in `pids`.
work_folder() {
  work=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")/durward-$1.XXXXXX")
  pids=()
  trap finish EXIT
}
finish() {
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}

# free_port: a port nobody listens on now. The peers cannot report a port the kernel chose.
free_port() { "$relay" port; }

# wait_for PORT: until somebody accepts there.
wait_for() {
  local i
  for i in $(seq 500); do
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
    read -rt 0.02 <> <(:) || true
  done
  echo "nobody listens on port $1" >&2
  return 1
}

declare -A port pid secure_port

start_upstream() {
  upstream=$(free_port)
  taskset -c 1 "$relay" upstream "$upstream" & pids+=($!)
  wait_for "$upstream"
}

# Contestants, each on `port[NAME]`. Where `secure_port[NAME]` is set, also there with $work/tls.crt and $work/tls.key; the
# process is noted in `pid[NAME]`. A name may be given, for a second process of the same kind.
start_floor() {
  local name=${1:-floor}
  taskset -c 0 "$relay" floor "${port[$name]}" "$upstream" & pid[$name]=$!; pids+=($!)
}
start_nginx() {
  local name=${1:-nginx} secure=
  [ -z "${secure_port[$name]:-}" ] || secure=" listen 127.0.0.1:${secure_port[$name]} ssl http2 backlog=4096; ssl_protocols TLSv1.2 TLSv1.3; \
ssl_certificate $work/tls.crt; ssl_certificate_key $work/tls.key;"
  sed -e "s|@WORK@/nginx.pid|$work/$name.pid|; s|@WORK@|$work|g; s|@PORT@|${port[$name]}|; s|@UPSTREAM@|$upstream|; s|listen .*|&$secure|" \
    benches/peers/nginx.conf > "$work/$name.conf"
  taskset -c 0 nginx -c "$work/$name.conf" -e "$work/nginx.err" & pid[$name]=$!; pids+=($!)
}
start_haproxy() {
  local name=${1:-haproxy} secure=
  [ -z "${secure_port[$name]:-}" ] || secure="\n  bind 127.0.0.1:${secure_port[$name]} ssl crt $work/tls.pem alpn h2,http/1.1"
  sed -e "s|@WORK@|$work|g; s|@PORT@|${port[$name]}|; s|@UPSTREAM@|$upstream|; s|bind .*|&$secure|" benches/peers/haproxy.cfg > "$work/$name.cfg"
  taskset -c 0 haproxy -q -db -f "$work/$name.cfg" & pid[$name]=$!; pids+=($!)
}
start_envoy() {
  local name=${1:-envoy} file=$work/${1:-envoy}.yaml
  if [ -n "${secure_port[$name]:-}" ]; then
    sed -e "s|@WORK@|$work|g; s|@SECURE_PORT@|${secure_port[$name]}|" benches/peers/envoy_secure.yaml > "$file.secure"
  else
    : > "$file.secure"
  fi
  sed -e "s|@PORT@|${port[$name]}|; s|@UPSTREAM@|$upstream|" -e "/@CREDENTIALS@/{
    r $work/envoy.map
    d
  }" -e "/@SECURE@/{
    r $file.secure
    d
  }" benches/peers/envoy.yaml > "$file"
  taskset -c 0 envoy -c "$file" --concurrency 1 --disable-hot-restart --log-level error > "$work/$name.log" 2>&1 & pid[$name]=$!; pids+=($!)
}
# serve_durward NAME: durward with the configuration in the folder of this name.
serve_durward() {
  taskset -c 0 "$gateway" serve --config "$work/$1/gateway.toml" > "$work/$1.log" 2>&1 & pid[$1]=$!; pids+=($!)
}
# stop NAME
stop() {
  kill "${pid[$1]}"
  wait "${pid[$1]}" || true
}

# maps_of FILE: what the peers read of the lines that `relay keys` writes.
maps_of() {
  awk '{ print "\"Bearer " $1 "\" " $2 ";" }' "$1" > "$work/nginx.map"
  awk '{ print $1, $2 }' "$1" > "$work/haproxy.map"
  awk '{ printf "              - { key: \"%s\", client: \"%s\" }\n", $1, $2 }' "$1" > "$work/envoy.map"
}

# processes PID: the process and its children that live.
processes() { echo "$1" $(cat "/proc/$1/task/$1/children" 2>/dev/null); }

# cpu PID: user and system time of the process and its children that live, in clock ticks.
cpu() {
  local total=0 p fields
  for p in $(processes "$1"); do
    fields=$(sed 's/.*) //' "/proc/$p/stat" 2>/dev/null) || continue
    set -- $fields
    total=$((total + ${12} + ${13}))
  done
  echo "$total"
}

# microseconds TICKS REQUESTS: for each request.
microseconds() { awk -v t="$1" -v n="$2" -v hz="$(getconf CLK_TCK)" 'BEGIN { if (n < 1) exit 1; printf "%.3f\n", t * 1e6 / hz / n }'; }

# wrk_requests NAME URL KEYS SECONDS: how many requests were answered, each of them with 200.
wrk_requests() {
  local bad
  BENCH_KEYS=$3 taskset -c 1 wrk -t1 -c64 -d "$4s" -s "${load:-benches/peers/keys.lua}" "$2" > "$work/wrk.out"
  bad=$(awk '/Non-2xx/ { print $NF } /Socket errors/ { print }' "$work/wrk.out")
  [ -z "$bad" ] || { echo "$1 answered with errors: $bad" >&2; tail -3 "$work/$1.log" 2>/dev/null >&2; return 1; }
  awk '/requests in/ { print $1 }' "$work/wrk.out"
}

median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# spread: the least and the greatest of all lines.
spread() { sort -n | sed -n '1p;$p' | paste -sd' ' | awk '{ digits = $NF < 1000 ? 2 : 0; printf "%.*f-%.*f", digits, $1, digits, $NF }'; }
