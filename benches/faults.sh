# shellcheck shell=bash
# Revocations around faults of Redis, for scripts/scale --faults: a primary, a replica and three sentinels behind a relay, and what happens to them.

# start_server NUMBER OPTION…: one of two servers. Everybody reaches it through the relay: it announces the relay's port.
start_server() {
  local i=$1; shift
  mkdir -p "$place/redis-$i"
  redis-server --port "${servers[i]}" --dir "$place/redis-$i" --save '' --maxmemory-policy noeviction --repl-diskless-sync-delay 0 \
    --replica-announce-ip 127.0.0.1 --replica-announce-port "${relayed[i]}" "$@" >> "$place/redis-$i/log" & server_pid[i]=$!; own+=($!); pids+=($!)
  wait_for "${servers[i]}"
  until [ "$(redis-cli -p "${servers[i]}" PING)" = PONG ]; do pause 0.1; done
}

# find_primary: whom a sentinel names.
find_primary() {
  local port
  port=$(redis-cli -p "${sentinels[0]}" SENTINEL GET-MASTER-ADDR-BY-NAME main | sed -n 2p)
  if [ "$port" = "${relayed[0]}" ]; then primary=0; else primary=1; fi
  redis_port=${servers[primary]}
}

# start_set: a primary, a replica that has its data, and three sentinels that know both.
start_set() {
  local i
  mkdir -p "$place"
  head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$place/pepper"
  for i in 0 1; do servers[i]=$("$relay" port) relayed[i]=$("$relay" port); done
  mkfifo "$place/cuts"
  "$examples/scale" relay "${relayed[0]}:${servers[0]}" "${relayed[1]}:${servers[1]}" < "$place/cuts" & own+=($!); pids+=($!)
  exec {cuts}> "$place/cuts"
  wait_for "${relayed[0]}"; wait_for "${relayed[1]}"
  start_server 0 --appendonly yes
  start_server 1 --appendonly yes --replicaof 127.0.0.1 "${relayed[0]}"
  for i in 0 1 2; do
    sentinels[i]=$("$relay" port)
    printf '%s\n' "port ${sentinels[i]}" "bind 127.0.0.1" "dir $place" "sentinel monitor main 127.0.0.1 ${relayed[0]} 2" \
      "sentinel down-after-milliseconds main 2000" "sentinel failover-timeout main 10000" > "$place/sentinel-$i.conf"
    redis-server "$place/sentinel-$i.conf" --sentinel > "$place/sentinel-$i.log" & own+=($!); pids+=($!)
    wait_for "${sentinels[i]}"
  done
  for i in 0 1 2; do
    until redis-cli -p "${sentinels[i]}" SENTINEL MASTER main | tr '\n' ' ' | grep -q 'num-slaves 1 num-other-sentinels 2'; do pause 0.1; done
  done
  find_primary
}

# restore FILE: both servers begin anew, the primary with this backup. Any other order could promote the replica's data.
restore() {
  local other=$((1 - primary)) i
  for i in "$other" "$primary"; do
    stop "${server_pid[i]}"
    rm -rf "$place/redis-$i"/{appendonlydir,dump.rdb}
  done
  cp "$1" "$place/redis-$primary/dump.rdb"
  start_server "$primary" --appendonly no
  redis-cli -p "$redis_port" CONFIG SET appendonly yes > "$place/answer"
  start_server "$other" --appendonly yes --replicaof 127.0.0.1 "${relayed[primary]}"
}

# backup: of the replica. `redis-cli --rdb` at the primary would look like another replica to sentinels, which never forget one.
backup() {
  local from=$((1 - primary))
  redis-cli -p "${servers[from]}" BGSAVE > "$place/answer"
  until redis-cli -p "${servers[from]}" INFO persistence | grep -q '^rdb_bgsave_in_progress:0'; do pause 0.1; done
  cp "$place/redis-$from/dump.rdb" "$place/backup.rdb"
}

# strike FAULT: makes it happen, and ends it if it ends by itself.
strike() {
  case $1 in
    events | lookups) echo "$1" >&"$cuts" ;;
    failover) redis-cli -p "${sentinels[0]}" SENTINEL FAILOVER main > "$place/answer" ;;
    killed)
      # The last revocations reach the primary and not the replica that is promoted next.
      echo replication >&"$cuts"
      pause 3
      stop "${server_pid[primary]}" KILL
      echo >&"$cuts"
      pause 20
      local dead=$primary
      find_primary
      [ "$primary" != "$dead" ] || { echo "no replica was promoted" >&2; return 1; }
      start_server "$dead" --appendonly yes --replicaof 127.0.0.1 "${relayed[primary]}" ;;
    flushed)
      backup
      redis-cli -p "$redis_port" FLUSHALL > "$place/answer"
      # Until nobody can be served on what was known.
      pause 45
      restore "$place/backup.rdb" ;;
    restored) restore "$place/backup.rdb" ;;
  esac
}

# fault NAME FIRST LASTS: revokes the keys from line FIRST on around the fault, under load for so many seconds.
fault() {
  local name=$1 first=$2 lasts=$3 load bound before after requests i calls=() sites=()
  for i in "${!ports[@]}"; do sites+=("${ports[i]}:${probes[i]}") calls+=("${ports[i]}:$place/$i/state/admin.sock"); done
  sed -n "$first,$((first + revoked - 1))p" "$place/all.txt" > "$place/revoked.txt"
  [ "$name" != restored ] || backup
  "$examples/scale" load "$place/keys.txt" "$rates" "$lasts" "${sites[@]}" > "$place/load" & load=$!
  "$examples/scale" bound "$place/revoked.txt" 10 "${calls[@]}" & bound=$!
  # Of the keys, about half are revoked before the fault and half after it.
  pause 8
  strike "$name"
  wait "$bound" || broken+=("$name")
  echo >&"$cuts"
  wait "$load"
  grep -E '^[0-9]+ served|^status|^nobody' "$place/load" | sed 's/^/busy callers: /'
  # Nobody may be told that a credential is wrong because the store failed.
  ! grep -qE '^status 40[13]' "$place/load" || broken+=("$name")
  # What was cut is read again by each gateway before the state is steady.
  case $name in events | lookups) requests=$(use $((count * gateways / rates + 15)) "$place") ;; esac
  find_primary
  echo "the primary has $(redis-cli -p "$redis_port" HMGET '{durward}:c' $(cut -d' ' -f3 "$place/revoked.txt") | grep -c '"revoked"' || true) of $revoked keys revoked"
  before=($(scripts)); requests=$(use 10 "$place"); after=($(scripts))
  awk -v calls=$((after[0] - before[0])) -v requests="$requests" 'BEGIN { printf "afterwards: %.1f scripts/s at %d requests/s\n", calls / 10, requests }'
}

# faults CALLERS: all faults in turn on one set of servers.
faults() {
  local count=$1 place=$work/faults-$1 i name where number=0 revoked=100
  local servers=() relayed=() sentinels=() server_pid=() primary cuts
  start_set
  "$examples/million" "redis://127.0.0.1:$redis_port" "$place/pepper" $((count + 7 * revoked)) $((count + 7 * revoked)) compact > "$place/all.txt"
  head -n "$count" "$place/all.txt" > "$place/keys.txt"
  where=$(printf 'sentinels = ["127.0.0.1:%s", "127.0.0.1:%s", "127.0.0.1:%s"]\nservice = "main"' "${sentinels[@]}")
  local settings="cache_entries = 1000000"$'\n'$settings
  start_gateways "$place" "$gateways"
  # Every caller comes to every gateway, and then stays for longer than facts live.
  use $((count * gateways / rates + 35)) "$place" > "$place/warm"
  for name in $only; do
    heading "$name, $count callers, $rates requests a second"
    fault "$name" $((count + revoked * number++ + 1)) "$(if [ "$name" = flushed ]; then echo 130; else echo 90; fi)"
  done
  exec {cuts}>&-
  stop_all
}
