#!/bin/sh
# tools.sh prepares the foreign tools that tests and the demo compare osmith with.
#
#   hack/tools.sh          everything the tests use
#   hack/tools.sh demo     only what the demo boots with
#   hack/tools.sh refresh  the same, with the Debian trees made anew
#
# It installs missing host packages with apt-get (as root; otherwise it prints
# the line to run) and prepares two Debian trees, "trixie" and "forky", whose
# newer tools the tests run in a chroot. The trees live outside the checkout, in
# ${OSMITH_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/osmith}/roots, and are reused.
#
# Exit status 0: all that is required is there. 1: something required is
# missing, named in the last lines. The host's tools and trixie are required;
# forky is a moving archive, so a forky that cannot be prepared is written to
# roots/forky.unavailable and only the tests that need it are skipped.
set -u

here=$(cd "$(dirname "$0")" && pwd)
. "$here/common.sh"

what=all
case "${1-}" in
"" | all) ;;
demo) what=demo ;;
refresh) what=refresh ;;
*) die "usage: hack/tools.sh [demo | refresh]" ;;
esac

# Host packages. Nothing here is started as a service.
demo_packages="qemu-system-x86 swtpm ovmf xz-utils debootstrap debian-archive-keyring"
test_packages="$demo_packages qemu-system-arm binutils cryptsetup-bin sbsigntool efitools gdisk fdisk
	dosfstools mtools tpm2-tools libtss2-tcti-swtpm0 erofs-utils squashfs-tools e2fsprogs genisoimage qemu-user-static openssl ca-certificates systemd argon2
	cgpt cpio softhsm2 opensc grub-common grub-emu libubootenv-tool u-boot-tools rauc dbus-daemon"

packages=$test_packages
[ "$what" = demo ] && packages=$demo_packages

# missing_packages prints the packages of its arguments that are not installed.
missing_packages() {
	for p; do
		dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || echo "$p"
	done
}

install_host() {
	if ! command -v apt-get >/dev/null 2>&1; then
		say "no apt-get here: the tests use whatever tools they find on PATH"
		problem "this is not a Debian machine: host tools are not installed by hack/tools.sh"
		return 1
	fi
	# shellcheck disable=SC2046,SC2086
	set -- $(missing_packages $packages)
	if [ $# = 0 ]; then
		say "host packages: present"
		return 0
	fi
	if [ "$(id -u)" != 0 ]; then
		problem "not root, so host packages are missing. Install them with:
    sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
		return 1
	fi
	say "host packages: installing $*"
	log=$tools/host.log
	: >"$log"
	for try in 1 2 3; do
		[ $try = 1 ] || { say "host packages: trying again in $((try * 5)) s"; sleep $((try * 5)); }
		# A stale third-party list makes update fail though Debian's own lists
		# are fine; whether the install works is what counts.
		apt_get update >>"$log" 2>&1
		apt_get install -y --no-install-recommends "$@" >>"$log" 2>&1 && break
		# One name that this release does not have must not stop the others.
		for p; do
			apt_get install -y --no-install-recommends "$p" >>"$log" 2>&1
		done
		# shellcheck disable=SC2046
		[ -z "$(missing_packages "$@")" ] && break
	done
	# shellcheck disable=SC2046
	set -- $(missing_packages "$@")
	[ $# = 0 ] && return 0
	tail -n 20 "$log" | sed 's/^/    /'
	problem "host packages could not be installed: $* (log: $log)"
	return 1
}

# take_registry takes the one program out of the package docker-registry, to $tools/bin: where that
# is installed it runs as a service.
take_registry() {
	if command -v docker-registry >/dev/null 2>&1 || [ -x "$tools/bin/docker-registry" ]; then
		say "docker-registry: present"
		return 0
	fi
	if (
		work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT && cd "$work" && mkdir -p "$tools/bin" &&
			apt_get download docker-registry >"$tools/registry.log" 2>&1 &&
			dpkg-deb -x docker-registry_*.deb . && cp usr/bin/docker-registry "$tools/bin/docker-registry.new" &&
			mv "$tools/bin/docker-registry.new" "$tools/bin/docker-registry"
	); then
		say "docker-registry: taken from its package"
		return 0
	fi
	problem "docker-registry could not be taken from its package (log: $tools/registry.log)"
	return 1
}

apt_get() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null
}

# root_ready SUITE: the tree exists and was made by the recipe of this checkout.
root_ready() {
	[ "$(cat "$roots/$1/.osmith-recipe" 2>/dev/null)" = "$recipe" ]
}

# prepare_root SUITE builds the tree in a mount namespace of its own, so that
# nothing stays mounted however the build ends.
prepare_root() {
	suite=$1
	rm -f "$roots/$suite.unavailable"
	start=$(date +%s)
	if OSMITH_RECIPE=$recipe unshare --mount --propagation private \
		sh "$here/root.sh" "$suite" "$roots" "$(debian_mirror)" 3>&1 >"$roots/$suite.log" 2>&1; then
		say "$suite: ready after $(($(date +%s) - start)) s"
		return 0
	fi
	reason=$(sed -n 's/^osmith: //p' "$roots/$suite.log" | tail -n 1)
	[ -n "$reason" ] || reason="the build ended early: $(tail -n 1 "$roots/$suite.log")"
	echo "$reason (log: $roots/$suite.log)" >"$roots/$suite.unavailable"
	say "$suite: FAILED: $(cat "$roots/$suite.unavailable")"
	return 1
}

# prepare_roots SUITE...: those that are not there yet, side by side. A tree of an
# older recipe stays in use until its successor is complete.
prepare_roots() {
	todo=
	for suite; do
		if [ "$what" = refresh ]; then
			todo="$todo $suite"
		elif root_ready "$suite"; then
			say "$suite: present"
		elif [ "$suite" = forky ] && [ -n "$(find "$roots/forky.unavailable" -mmin -720 2>/dev/null)" ]; then
			# Tried within the last 12 hours; an archive does not heal in minutes.
			say "forky: unavailable: $(cat "$roots/forky.unavailable")"
		else
			todo="$todo $suite"
		fi
	done
	[ -n "$todo" ] || return 0
	if [ "$(id -u)" != 0 ]; then
		problem "not root, so the Debian trees are missing:$todo. Make them with: sudo env OSMITH_TOOLS=$tools hack/tools.sh"
		return 1
	fi
	if ! command -v debootstrap >/dev/null 2>&1; then
		problem "debootstrap is missing, so the Debian trees are too:$todo"
		return 1
	fi
	pids=
	for suite in $todo; do
		say "$suite: preparing in $roots/$suite"
		prepare_root "$suite" &
		pids="$pids $!"
	done
	for pid in $pids; do wait "$pid"; done
	return 0
}

# debian_mirror prints where this machine gets Debian from.
debian_mirror() {
	apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
		awk '$2 == "main" && $1 ~ /^https?:.*\/debian\/?$/ { print $1; found = 1; exit }
			END { if (!found) print "http://deb.debian.org/debian" }'
}

mkdir -p "$roots" || die "cannot make $roots"
tools=$(cd "$tools" && pwd)
roots=$tools/roots
recipe=$(cksum <"$here/root.sh")
problems=$tools/problems.$$
: >"$problems"
trap 'rm -f "$problems"' EXIT
problem() { printf '%s\n' "$1" >>"$problems"; }

# Two runs at once (a demo beside a test) take turns.
if command -v flock >/dev/null 2>&1; then
	exec 9>"$tools/lock"
	flock -n 9 || { say "waiting for another hack/tools.sh"; flock 9; }
fi

install_host
if [ "$what" = demo ]; then
	# The demo boots forky's parts; trixie's are the second choice.
	prepare_roots forky
	root_ready forky || prepare_roots trixie
	root_ready forky || root_ready trixie || problem "neither the forky nor the trixie tree could be prepared"
else
	take_registry
	prepare_roots trixie forky
	[ -s "$problems" ] || { root_ready trixie && [ ! -e "$roots/trixie.unavailable" ]; } ||
		problem "the trixie tree could not be prepared: $(cat "$roots/trixie.unavailable" 2>/dev/null)"
fi

[ -s "$problems" ] || exit 0
sed 's/^/tools missing: /; s/^tools missing:     /    /' "$problems"
exit 1
