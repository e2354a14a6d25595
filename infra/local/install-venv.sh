#!/bin/sh
# Debian and Ubuntu split `venv` from Python. Install it for the Python given (as root, or with sudo), or say how.
set -eu
package="$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
if ! command -v apt-get >/dev/null; then
  echo "This Python cannot make virtual environments (its venv or ensurepip module is missing); install it whole." >&2
  exit 1
fi
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
echo "==> installing $package"
export DEBIAN_FRONTEND=noninteractive
as_root apt-get update -qq && as_root apt-get install -y -qq --no-install-recommends "$package" >/dev/null || {
  echo "Could not install $package; ask whoever may: apt-get install $package" >&2
  exit 1
}
