#!/bin/sh
# chromium.sh installs the browser in which the tests of hack/test -long look at
# the page of examples/report: Debian's package chromium, on the host.
#
# Exit status 0: the browser is there. 1: it is not; the last line says why.
set -u

here=$(cd "$(dirname "$0")" && pwd)
. "$here/common.sh"

if command -v chromium >/dev/null 2>&1; then
	say "chromium: present"
	exit 0
fi
command -v apt-get >/dev/null 2>&1 || die "chromium is missing, and this is not a Debian machine"
[ "$(id -u)" = 0 ] || die "not root, so chromium is missing: sudo apt-get install --no-install-recommends chromium"

say "chromium: installing"
mkdir -p "$tools"
log=$tools/chromium.log
: >"$log"
for pause in 3 10 0; do
	DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 update >>"$log" 2>&1 </dev/null
	DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends chromium >>"$log" 2>&1 </dev/null && break
	[ $pause = 0 ] || sleep $pause
done
command -v chromium >/dev/null 2>&1 || die "chromium could not be installed: $(tail -n 1 "$log") (log: $log)"
say "chromium: ready"
