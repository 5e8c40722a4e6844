#!/bin/sh
# Install those of the named Debian packages that are missing. Only root can; anybody else is told,
# and the tests that need one of them skip (or fail, where REQUIRE_LAB or CI says that they must run).
set -u
missing=
for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "not installed:$missing; tests that need them are skipped (apt-get install$missing)" >&2
    exit 0
fi
echo "installing Debian packages:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# A package's own start of a daemon is not wanted here: tests start what they need.
policy=/usr/sbin/policy-rc.d
[ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy" && trap 'rm -f "$policy"' EXIT; }
apt-get update -qq >/dev/null 2>&1
# shellcheck disable=SC2086  # a list of words on purpose
apt-get install -y -qq --no-install-recommends $missing >/dev/null
