// Package testtools runs the foreign tools that tests compare osmith with.
//
// Tools of the machine itself ([Require], [Run], [Output]) are found on PATH.
// Tools of newer Debian releases ([Trixie], [Forky]) live in trees which
// hack/tools.sh prepares, and run there in a chroot with a mount and process
// namespace of their own: concurrent tests do not see each other, and nothing
// stays mounted or running after a call.
//
//	func TestStub(t *testing.T) {
//		root := testtools.Trixie(t)
//		dir := t.TempDir()
//		root.Run(t, dir, "ukify", "build", "--stub", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
//			"--output", filepath.Join(dir, "out.efi"))
//	}
//
// A test whose tool is missing is skipped with the command that would install
// it, and fails instead when OSMITH_REQUIRE_TOOLS=1. Two skips stay skips even
// then: forky where hack/tools.sh has recorded why it could not be prepared
// (Debian's testing archive is not always installable), and go test -short,
// which is for the pure Go tests alone.
//
// The package is for tests on Linux; elsewhere everything that needs a Debian
// tree skips.
package testtools
