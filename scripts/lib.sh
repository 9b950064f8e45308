# Shared by the scripts: headings, and programs that may have to be installed.

heading() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

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
