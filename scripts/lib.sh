# Shared by the scripts: headings, and programs that may have to be installed.

heading() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

# target_directory: where cargo puts what it builds.
target_directory() { cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'; }

# wait_for_demo PID OUT ERR: until the demo of this process has printed its last line to OUT.
wait_for_demo() {
  for _ in $(seq 600); do
    grep -q '^Ctrl-C stops' "$2" 2>/dev/null && return
    kill -0 "$1" 2>/dev/null || { cat "$2" "$3" >&2; echo "the demo ended before it was ready" >&2; return 1; }
    read -rt 0.05 <> <(:) || true
  done
  echo "the demo did not become ready" >&2
  return 1
}

# need PROGRAM PACKAGE: installs the Debian package unless the program is there.
need() {
  local program=$1 package=$2 sudo=
  command -v "$program" >/dev/null 2>&1 && return
  [ -x "/usr/sbin/$program" ] && return
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "$program is missing; install it (Debian package: $package) and run this again" >&2
    exit 1
  fi
  heading "installing $package"
  if [ -z "${apt_updated:-}" ]; then
    $sudo apt-get update -qq
    apt_updated=1
  fi
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
}
