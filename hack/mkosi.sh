#!/bin/sh
# mkosi.sh prepares the Debian tree "mkosi", in which the tests of hack/test -long
# build images as vendors do: a copy of the tree "forky" that hack/tools.sh made,
# with mkosi and the programs that it calls.
#
# Exit status 0: the tree is there. 1: it is not; the last line says why.
set -u

here=$(cd "$(dirname "$0")" && pwd)
. "$here/common.sh"

tree=$roots/mkosi.tmp
log=$roots/mkosi.log
# What mkosi only recommends, since it works with any distribution and format.
packages="mkosi bubblewrap cpio e2fsprogs erofs-utils openssl zstd"

[ -e "$roots/forky/.osmith-recipe" ] || die "there is no tree $roots/forky: run hack/tools.sh as root"
recipe=$(cat "$here/mkosi.sh" "$roots/forky/.osmith-packages" | cksum)
if [ "$(cat "$roots/mkosi/.osmith-recipe" 2>/dev/null)" = "$recipe" ]; then
	say "mkosi: present"
	exit 0
fi
[ "$(id -u)" = 0 ] || die "not root, so the tree $roots/mkosi is missing: run hack/mkosi.sh as root"

say "mkosi: preparing in $roots/mkosi"
rm -rf "$tree"
cp -a --reflink=auto "$roots/forky" "$tree" || die "mkosi: $roots/forky cannot be copied"
rm -f "$tree/.osmith-recipe"
cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
# In a mount namespace of its own, so that nothing stays mounted however it ends.
if ! unshare --mount --propagation private sh -ec 'mount -t proc proc "$1/proc"
	tree=$1
	shift
	inside() {
		env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
			${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} chroot "$tree" "$@" </dev/null
	}
	for pause in 3 10 0; do
		inside apt-get -q update && inside apt-get -q -y install "$@" && break
		[ $pause != 0 ] && sleep $pause
	done
	inside mkosi --version
	inside apt-get -q clean' sh "$tree" $packages >"$log" 2>&1; then
	die "mkosi could not be installed: $(tail -n 1 "$log") (log: $log)"
fi
rm -rf "$tree"/var/lib/apt/lists/* "$tree"/tmp/* "$tree/etc/resolv.conf"
echo "$recipe" >"$tree/.osmith-recipe"
rm -rf "$roots/mkosi.old"
[ ! -e "$roots/mkosi" ] || mv "$roots/mkosi" "$roots/mkosi.old" || die "mkosi: the previous tree cannot be moved away"
mv "$tree" "$roots/mkosi" || die "mkosi: the finished tree cannot be renamed"
rm -rf "$roots/mkosi.old"
say "mkosi: ready"
