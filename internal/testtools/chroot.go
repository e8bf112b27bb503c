package testtools

import (
	"cmp"
	"path/filepath"
	"testing"
)

// enter runs in the new mount and process namespace. Its arguments are the tree,
// the directory of the test and the command. A tmpfs in the tree holds the mount
// point of the test's directory, so that the tree itself is never written to. The
// tree is mounted onto itself: mkosi makes namespaces of its own, for which "/" has
// to be a mount point.
const enter = `set -e
tree=$1 dir=$2
shift 2
case $dir in
/tmp/*) over=/tmp ;;
/var/tmp/*) over=/var/tmp ;;
/*/*) over=${dir#/}; over=/${over%%/*} ;;
*) echo "testtools: $dir cannot be the directory of a test" >&2; exit 125 ;;
esac
case $over in
/bin | /boot | /dev | /etc | /lib | /lib64 | /opt | /proc | /sbin | /sys | /usr | /var)
	echo "testtools: $dir cannot be the directory of a test: it would hide $over" >&2; exit 125 ;;
esac
mount --bind "$tree" "$tree"
mkdir -p "$tree$over"
mount -t tmpfs -o mode=1777 tmpfs "$tree$over"
mkdir -p "$tree$dir"
mount --bind "$dir" "$tree$dir"
mount -t proc proc "$tree/proc"
mount --rbind /dev "$tree/dev"
mount --rbind /sys "$tree/sys"
exec env -i PATH=/usr/lib/systemd:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
	LC_ALL=C.UTF-8 TZ=UTC TMPDIR=/tmp \
	chroot "$tree" sh -c 'cd "$0" && exec "$@"' "$dir" "$@"
`

// Run runs a tool of the tree in the directory dir, which it sees at the same
// path, usually t.TempDir(). It returns what the tool wrote to standard output
// and standard error; the test fails when the exit status is not zero.
//
// The tool runs as root with a fixed environment. Variables are given by env,
// and a test that wants other file systems mounts them itself, since the
// namespace is its own:
//
//	r.Run(t, dir, "env", "SYSTEMD_RELAX_ESP_CHECKS=1", "bootctl", "list")
//	r.Run(t, dir, "sh", "-c", "mount -t tmpfs tmpfs /sys && ...")
func (r Root) Run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	out, err := r.Try(t, dir, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try is Run for a tool that may fail: the error holds the command line, the
// status and the output.
func (r Root) Try(t testing.TB, dir, name string, args ...string) (string, error) {
	t.Helper()
	out, _, err := r.run(t, dir, name, args)
	return out, err
}

// Output is Run that returns standard output alone, for tools that print a
// format to be parsed.
func (r Root) Output(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	_, out, err := r.run(t, dir, name, args)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (r Root) run(t testing.TB, dir, name string, args []string) (both, stdout string, err error) {
	t.Helper()
	limit := cmp.Or(r.limit, toolTime)
	// Links in the path need no care: inside, all of it is plain directories.
	if dir, err = filepath.Abs(dir); err != nil {
		t.Fatalf("testtools: directory of the test: %v", err)
	}
	if r.dir == "/" {
		return run(limit, dir, name, args, Require(t, name), args...)
	}
	command := append([]string{
		"--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
		"sh", "-c", enter, "sh", r.dir, dir, name,
	}, args...)
	return run(limit, dir, r.Name+": "+name, args, Require(t, "unshare"), command...)
}
