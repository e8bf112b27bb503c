#!/bin/sh
# root.sh SUITE ROOTS MIRROR makes the Debian tree ROOTS/SUITE. It is called by
# tools.sh inside a private mount namespace, as root. Standard output is a log;
# progress goes to descriptor 3. A line "osmith: ..." in the log is the reason
# of a failure. Changing this file makes every tree be made again.
set -u

suite=$1 roots=$2 mirror=$3
tree=$roots/$suite.tmp

# Run in the tree.
packages="systemd-ukify systemd-boot systemd-boot-efi systemd-repart cosign cryptsetup-bin ovmf kmod
	sbsigntool osslsigncode systemd-cryptsetup dosfstools mtools"
# systemd-measure 257 signs with a TPM library that it loads when it is there.
tss="libtss2-esys-3.0.2-0t64 libtss2-rc0t64 libtss2-mu-4.0.1-0t64 libtss2-tctildr0t64"
# Only their files are wanted: installing a kernel would build an initrd.
kernel=linux-image-cloud-amd64
# What must be there and start at the end.
programs="ukify bootctl systemd-repart systemd-measure cosign veritysetup"

case $suite in
trixie) packages="$packages $tss pesign python3-virt-firmware skopeo" ;;
forky)
	# systemd-sysupdate comes with systemd-container, and loads what speaks HTTP when it is there.
	packages="$packages systemd-boot-tools systemd-tpm systemd-container libcurl4t64"
	programs="$programs systemd-sysupdate"
	;;
*) echo "osmith: unknown suite $suite"; exit 1 ;;
esac

progress() {
	echo "== $suite: $*"
	echo "  $suite: $*" >&3
}
fail() {
	echo "osmith: $*"
	exit 1
}

# again runs a command up to three times: mirrors have bad minutes.
again() {
	for pause in 3 10 0; do
		"$@" && return 0
		[ $pause = 0 ] || sleep $pause
	done
	return 1
}

inside() {
	env -i PATH=/usr/lib/systemd:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
		DEBIAN_FRONTEND=noninteractive \
		${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
		chroot "$tree" "$@" </dev/null
}

bootstrap() {
	# An older debootstrap does not know a newer suite; all of them are sid's recipe.
	recipe=/usr/share/debootstrap/scripts/$suite
	[ -e "$recipe" ] || recipe=/usr/share/debootstrap/scripts/sid
	rm -rf "$tree"
	debootstrap --variant=minbase "$suite" "$tree" "$mirror" "$recipe" </dev/null
}

configure() {
	mkdir -p "$tree/etc/apt/apt.conf.d" "$tree/etc/dpkg/dpkg.cfg.d" "$tree/etc/ssl/certs"
	echo "deb $mirror $suite main" >"$tree/etc/apt/sources.list"
	cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
	cp -L /etc/hosts "$tree/etc/hosts"
	[ -s "$tree/etc/ssl/certs/ca-certificates.crt" ] || [ ! -s /etc/ssl/certs/ca-certificates.crt ] ||
		cp -L /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
	# How this machine reaches its mirror.
	apt-config dump | grep -E '^Acquire::(http|https|ftp)::.*"..*";$' >"$tree/etc/apt/apt.conf.d/80host"
	cat >"$tree/etc/apt/apt.conf.d/90osmith" <<-END
		Acquire::Retries "3";
		Acquire::Languages "none";
		APT::Install-Recommends "false";
		APT::Sandbox::User "root";
		// A testing suite's mirror may lag; the signature is still checked.
		Acquire::Check-Valid-Until "false";
	END
	cat >"$tree/etc/dpkg/dpkg.cfg.d/osmith" <<-END
		force-unsafe-io
		path-exclude=/usr/share/doc/*
		path-exclude=/usr/share/man/*
		path-exclude=/usr/share/locale/*
	END
	printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
	chmod 755 "$tree/usr/sbin/policy-rc.d"
	mount -t proc proc "$tree/proc" || fail "cannot mount /proc in the tree"
}

# install tries all packages at once, then one at a time, so that one name that
# cannot be installed is named and does not hide the others.
install() {
	# shellcheck disable=SC2086
	again inside apt-get -q -y install $packages && return 0
	failed=
	for p in $packages; do
		again inside apt-get -q -y install "$p" || failed="$failed $p"
	done
	[ -z "$failed" ] || fail "packages that could not be installed:$failed"
}

# unpack_kernel makes /opt/kernel/vmlinuz and /opt/kernel/lib/modules/VERSION. The
# package named above is empty and depends on those of the current version;
# where they keep the kernel differs between releases.
unpack_kernel() {
	names=$(inside apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
		--no-breaks --no-replaces --no-enhances "$kernel" |
		sed -n 's/^\(linux-\(image\|binary\|modules\|base\)-[0-9][a-z0-9.+_-]*\)$/\1/p' | sort -u)
	[ -n "$names" ] || return 1
	rm -rf "$tree/opt/kernel"
	mkdir -p "$tree/opt/kernel/debs"
	# shellcheck disable=SC2086
	inside sh -ec 'cd /opt/kernel/debs
		apt-get -q download "$@"
		for deb in *.deb; do dpkg-deb -x "$deb" .; done
		mkdir ../lib
		for dir in usr/lib/modules lib/modules; do [ ! -d $dir ] || mv $dir ../lib/; done
		for file in boot/vmlinuz-* ../lib/modules/*/vmlinuz; do [ ! -f $file ] || mv $file ../vmlinuz; done
		cd ..
		rm -rf debs
		test -s vmlinuz
		ln -s . usr
		for dir in lib/modules/*; do depmod -b /opt/kernel "${dir##*/}"; test -s $dir/modules.dep -a -s $dir/modules.builtin; done
		rm usr' sh $names
}

# files DIR SUITE ARCH PACKAGE... unpacks packages of any suite and architecture into
# /opt/DIR, without installing them.
files() {
	dir=$1 from=$2 arch=$3
	shift 3
	# shellcheck disable=SC2016
	again inside sh -ec 'dir=/opt/$1 mirror=$2 from=$3 arch=$4
		shift 4
		rm -rf "$dir"
		mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial"
		cd "$dir"
		echo "deb $mirror $from main" >apt/sources
		: >apt/status # what is installed in the tree is newer than some of what is wanted
		set -- -q -o "Dir::Etc::sourcelist=$dir/apt/sources" -o Dir::Etc::sourceparts=- \
			-o "Dir::State::lists=$dir/apt/lists" -o "Dir::State::status=$dir/apt/status" -o "Dir::Cache=$dir/apt/cache" \
			-o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -- "$@"
		options= ; while [ "$1" != -- ]; do options="$options $1"; shift; done; shift
		apt-get $options update
		apt-get $options download "$@"
		for deb in *.deb; do dpkg-deb -x "$deb" .; done
		rm -rf apt ./*.deb' sh "$dir" "$mirror" "$from" "$arch" "$@"
}

progress "unpacking the base system from $mirror"
again bootstrap || fail "debootstrap of $suite failed"
configure
progress "installing" $packages
again inside apt-get -q update || fail "apt-get update of $suite failed"
install
progress "unpacking $kernel"
again unpack_kernel || fail "$kernel could not be downloaded and unpacked"
if [ $suite = trixie ]; then
	# What others signed, the stubs of older releases, and another architecture.
	progress "unpacking signed programs and more stubs"
	files signed trixie amd64 shim-signed shim-helpers-amd64-signed grub-efi-amd64-signed \
		systemd-boot-efi-amd64-signed || fail "signed programs could not be unpacked"
	for arch in amd64 arm64 i386 armhf; do
		case $arch in
		armhf) names=fwupd-armhf-signed ;;
		i386) names="shim-signed grub-efi-ia32-signed fwupd-i386-signed" ;;
		*) names="shim-signed grub-efi-$arch-signed fwupd-$arch-signed" ;;
		esac
		for from in bullseye bookworm; do
			# shellcheck disable=SC2086
			files signed-$from-$arch $from $arch $names || fail "signed programs of $from for $arch could not be unpacked"
		done
	done
	files stub-252 bookworm amd64 systemd-boot-efi || fail "the stub of bookworm could not be unpacked"
	files stub-252-arm64 bookworm arm64 systemd-boot-efi || fail "the stub of bookworm for arm64 could not be unpacked"
	files stub-252-i386 bookworm i386 systemd-boot-efi || fail "the stub of bookworm for 32 bits could not be unpacked"
	files stub-254 bookworm-backports amd64 systemd-boot-efi || fail "the stub of bookworm-backports could not be unpacked"
	files arm64 trixie arm64 systemd-boot-efi qemu-efi-aarch64 "linux-image-$(
		inside sh -c 'apt-cache depends linux-image-cloud-amd64' | sed -n 's/.*Depends: linux-image-\([0-9.]*+deb[0-9]*\)-cloud-amd64.*/\1/p')-cloud-arm64" ||
		fail "firmware, stub and kernel for arm64 could not be unpacked"
	inside sh -ec 'cd /opt/arm64
		[ -e lib ] || ln -s usr/lib lib
		for dir in lib/modules/*; do depmod -b /opt/arm64 "${dir##*/}"; test -s $dir/modules.dep -a -s $dir/modules.builtin; done' ||
		fail "depmod of the modules for arm64 failed"
fi

for p in $programs; do
	inside "$p" --version >/dev/null 2>&1 || inside "$p" version >/dev/null 2>&1 || fail "$p does not run in the $suite tree"
done
for f in usr/lib/systemd/boot/efi/linuxx64.efi.stub usr/lib/systemd/boot/efi/systemd-bootx64.efi \
	usr/share/OVMF/OVMF_CODE_4M.secboot.fd usr/share/OVMF/OVMF_VARS_4M.fd; do
	[ -s "$tree/$f" ] || fail "$f is not in the $suite tree"
done

inside apt-get -q clean
rm -rf "$tree"/var/lib/apt/lists/* "$tree"/tmp/* "$tree/etc/resolv.conf"
inside dpkg-query -W >"$tree/.osmith-packages" || fail "dpkg-query failed"
umount "$tree/proc" || fail "cannot unmount /proc of the tree"
echo "$OSMITH_RECIPE" >"$tree/.osmith-recipe"
# The rename is what publishes the tree: a half made one is never used.
if [ -e "$roots/$suite" ]; then
	rm -rf "$roots/$suite.old"
	mv "$roots/$suite" "$roots/$suite.old" || fail "cannot move the previous tree away"
fi
mv "$tree" "$roots/$suite" || fail "cannot rename the finished tree"
rm -rf "$roots/$suite.old"
