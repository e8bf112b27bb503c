package bootloader

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith/internal/efi"
)

// A kernel does to a plain directory what Linux does to efivarfs: files have flags, what is
// immutable is not opened for writing nor removed, and a new file is immutable unless it is of the
// boot menu. It keeps the calls that change something.
type kernel struct {
	*EFIVarFS
	flags map[string]int // of files, by path
	calls []string
	fail  func(call string) error // nil: none does
	short bool                    // a write takes a byte less
	lies  bool                    // and another one
}

func efivarKernel(t *testing.T) *kernel {
	t.Helper()
	e, err := OpenEFIVarFS(t.TempDir())
	require.NoError(t, err)
	k := &kernel{EFIVarFS: e, flags: map[string]int{}, fail: func(string) error { return nil }}
	real := e.calls
	call := func(name string) error {
		k.calls = append(k.calls, name)
		return k.fail(name)
	}
	e.calls.flags = func(path string) (int, error) {
		if _, err := os.Stat(path); err != nil {
			return 0, err
		}
		return k.flags[path] | 0x80000, k.fail("flags")
	}
	e.calls.setFlags = func(path string, flags int) error {
		name := "mutable"
		if flags&fsImmutable != 0 {
			name = "immutable"
		}
		if err := call(name); err != nil {
			return err
		}
		if _, err := os.Stat(path); err != nil {
			return err
		}
		require.NotZero(t, flags&0x80000, "other flags stay")
		k.flags[path] = flags
		return nil
	}
	e.calls.open = func(path string, flags int) (int, error) {
		if err := call("open"); err != nil {
			return 0, err
		}
		if k.flags[path]&fsImmutable != 0 {
			return 0, unix.EPERM
		}
		fd, err := real.open(path, flags)
		if _, known := k.flags[path]; err == nil && !known {
			k.flags[path] = fsImmutable | 0x80000
		}
		return fd, err
	}
	e.calls.write = func(fd int, b []byte) (int, error) {
		if err := call("write"); err != nil {
			return 0, err
		}
		b = slices.Clone(b)
		if k.short {
			b = b[:len(b)-1]
		}
		if k.lies {
			b[len(b)-1]++
		}
		return real.write(fd, b)
	}
	e.calls.unlink = func(path string) error {
		if err := call("unlink"); err != nil {
			return err
		}
		if k.flags[path]&fsImmutable != 0 {
			return unix.EPERM
		}
		delete(k.flags, path)
		return real.unlink(path)
	}
	return k
}

func (k *kernel) took() []string {
	calls := k.calls
	k.calls = nil
	return calls
}

func bootVariable(data ...byte) EFIVariable {
	return EFIVariable{"Boot0001", efi.GlobalVariable, VariableKept, data}
}

func TestEFIVarFSWrites(t *testing.T) {
	k := efivarKernel(t)
	path := k.path("Boot0001", efi.GlobalVariable)
	require.NoError(t, k.Set(bootVariable(1, 2, 3)))
	require.Equal(t, []string{"open", "write"}, k.took(), "attributes and content in one write")
	require.NoError(t, k.Set(bootVariable(1, 2, 3)))
	require.Empty(t, k.took(), "what is there is not written")
	require.NoError(t, k.Set(bootVariable(4, 5)))
	require.Equal(t, []string{"mutable", "open", "write", "immutable"}, k.took())
	require.Equal(t, fsImmutable|0x80000, k.flags[path])
	k.flags[path] = 0x80000
	require.NoError(t, k.Set(bootVariable(6)))
	require.Equal(t, []string{"open", "write"}, k.took(), "no flag is set that was not")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, []byte{7, 0, 0, 0, 6}, b)

	k.flags[path] |= fsImmutable
	require.NoError(t, k.Delete("Boot0001", efi.GlobalVariable))
	require.Equal(t, []string{"mutable", "unlink", "immutable"}, k.took())
	_, err = os.Stat(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, k.Delete("Boot0001", efi.GlobalVariable), fs.ErrNotExist)
}

// What each error of the kernel is, and that it leaves everything as it was.
func TestEFIVarFSRefused(t *testing.T) {
	for _, tt := range []struct {
		call string
		err  error
		want []error
		not  []error
	}{
		{"write", unix.ENOSPC, []error{ErrNoSpace, ErrVariableRefused, unix.ENOSPC}, []error{ErrVariableReadOnly}},
		{"write", unix.EROFS, []error{ErrVariableReadOnly, ErrVariableRefused, unix.EROFS}, []error{ErrNoSpace}},
		{"write", unix.EPERM, []error{ErrVariableReadOnly}, nil},
		{"write", unix.EACCES, []error{ErrVariableReadOnly}, nil},
		{"write", unix.EINVAL, []error{ErrVariableRefused}, []error{ErrNoSpace, ErrVariableReadOnly}},
		{"write", unix.ENOSYS, []error{ErrVariableRefused}, nil},
		{"write", unix.EIO, []error{unix.EIO}, []error{ErrVariableRefused}},
		{"open", unix.EROFS, []error{ErrVariableReadOnly}, nil},
		{"open", unix.ENOSPC, []error{ErrNoSpace}, nil},
		{"open", unix.EACCES, []error{fs.ErrPermission}, []error{ErrVariableRefused}},
		{"open", unix.EPERM, []error{fs.ErrPermission}, []error{ErrVariableRefused}},
		{"mutable", unix.EPERM, []error{fs.ErrPermission}, []error{ErrVariableRefused}},
		{"flags", unix.EIO, []error{unix.EIO}, []error{ErrVariableRefused}},
	} {
		k := efivarKernel(t)
		check := func(err error) {
			t.Helper()
			var e *VariableError
			require.ErrorAs(t, err, &e, "%s %v", tt.call, tt.err)
			require.Equal(t, "Boot0001", e.Name)
			for _, want := range tt.want {
				require.ErrorIs(t, err, want)
			}
			for _, not := range tt.not {
				require.NotErrorIs(t, err, not)
			}
		}
		path := k.path("Boot0001", efi.GlobalVariable)
		fail := func(call string) error {
			if call == tt.call {
				return tt.err
			}
			return nil
		}
		k.fail = fail
		if tt.call == "open" || tt.call == "write" {
			check(k.Set(bootVariable(1)))
			_, err := os.Stat(path)
			require.ErrorIs(t, err, fs.ErrNotExist, "no empty file remains of a new one")
		}
		k.fail = func(string) error { return nil }
		require.NoError(t, k.Set(bootVariable(1)))
		k.fail = fail
		check(k.Set(bootVariable(2)))
		k.fail = func(string) error { return nil }
		require.Equal(t, fsImmutable|0x80000, k.flags[path], "the flag is set again, %s %v", tt.call, tt.err)
		v, err := readVariable(k, "Boot0001", efi.GlobalVariable)
		require.NoError(t, err)
		require.Equal(t, bootVariable(1), v)
	}

	k := efivarKernel(t)
	require.NoError(t, k.Set(bootVariable(1)))
	for _, err := range []error{unix.EINVAL, unix.EROFS} {
		k.fail = func(call string) error {
			if call == "unlink" {
				return err
			}
			return nil
		}
		require.ErrorIs(t, k.Delete("Boot0001", efi.GlobalVariable), ErrVariableRefused)
		require.Equal(t, fsImmutable|0x80000, k.flags[k.path("Boot0001", efi.GlobalVariable)])
	}
	k.fail = func(call string) error {
		if call == "immutable" {
			return unix.EIO
		}
		return nil
	}
	require.ErrorIs(t, k.Set(bootVariable(2)), unix.EIO, "a flag that cannot be set again is told")

	// A new one whose file cannot be taken away again: both errors are told.
	k = efivarKernel(t)
	k.fail = func(call string) error {
		return map[string]error{"write": unix.ENOSPC, "unlink": unix.EIO}[call]
	}
	err := k.Set(bootVariable(1))
	require.ErrorIs(t, err, unix.EIO)
	require.ErrorIs(t, err, ErrNoSpace)
	// Newer kernels have taken it away themselves.
	k = efivarKernel(t)
	k.fail = func(call string) error {
		if call == "write" {
			require.NoError(t, os.Remove(k.path("Boot0001", efi.GlobalVariable)))
			clear(k.flags)
			return unix.ENOSPC
		}
		return nil
	}
	err = k.Set(bootVariable(1))
	require.ErrorIs(t, err, ErrNoSpace)
	require.NotErrorIs(t, err, fs.ErrNotExist)
}

func TestEFIVarFSDoesNotBelieve(t *testing.T) {
	k := efivarKernel(t)
	k.short = true
	require.ErrorContains(t, k.Set(bootVariable(1, 2)), "5 of 6 bytes")
	require.NotContains(t, k.took()[2:], "write", "there is no second one")

	k = efivarKernel(t)
	k.lies = true
	var mismatch *VariableMismatchError
	require.ErrorAs(t, k.Set(bootVariable(1, 2)), &mismatch)
	require.Equal(t, []byte{1, 2}, mismatch.Want.Data)
	require.Equal(t, []byte{1, 3}, mismatch.Got.Data)
	require.ErrorContains(t, mismatch, "got attributes 0x7 with the 2 bytes 0103, want attributes 0x7 with the 2 bytes 0102")

	// What cannot be read is not written over.
	k = efivarKernel(t)
	require.NoError(t, os.WriteFile(k.path("Boot0001", efi.GlobalVariable), []byte{7, 0}, 0o600))
	require.ErrorContains(t, k.Set(bootVariable(1)), "bytes, want at least 4 bytes of attributes")
	require.Empty(t, k.took())
	// But the file of a write that was never done is nothing.
	require.NoError(t, os.WriteFile(k.path("Boot0001", efi.GlobalVariable), nil, 0o600))
	require.NoError(t, k.Set(bootVariable(1)))

	// Signals, of which Go's scheduler sends many, end nothing.
	k = efivarKernel(t)
	signals := map[string]int{}
	k.fail = func(call string) error {
		if signals[call]++; signals[call] <= 2 && (call == "open" || call == "write" || call == "unlink") {
			return unix.EINTR
		}
		return nil
	}
	require.NoError(t, k.Set(bootVariable(1)))
	require.NoError(t, k.Delete("Boot0001", efi.GlobalVariable))
	require.Equal(t, map[string]int{"open": 3, "write": 3, "unlink": 3, "flags": 1, "mutable": 1, "immutable": 1}, signals)
}

// A file system without such flags is written to as it is.
func TestEFIVarFSWithoutFlags(t *testing.T) {
	for _, err := range []error{unix.ENOTTY, unix.EOPNOTSUPP, unix.EINVAL} {
		k := efivarKernel(t)
		k.EFIVarFS.calls.flags = func(string) (int, error) { return 0, errors.Join(err, nil) }
		k.flags[k.path("Boot0001", efi.GlobalVariable)] = 0
		require.NoError(t, k.Set(bootVariable(1)))
		require.NoError(t, k.Set(bootVariable(2, 3)))
		require.NoError(t, k.Delete("Boot0001", efi.GlobalVariable))
		require.Equal(t, []string{"open", "write", "open", "write", "unlink"}, k.took())
	}
}

// The real flag of a real file, where the file system has it and this is root.
func TestEFIVarFSImmutableFile(t *testing.T) {
	e, err := OpenEFIVarFS(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, e.Set(bootVariable(1)))
	path := e.path("Boot0001", efi.GlobalVariable)
	flags, err := fileFlags(path)
	if err == nil {
		err = setFileFlags(path, flags|fsImmutable)
	}
	if err != nil {
		t.Skipf("no file can be made immutable here: %v", err)
	}
	defer func() {
		if err := setFileFlags(path, flags); !errors.Is(err, fs.ErrNotExist) {
			require.NoError(t, err)
		}
	}()
	require.ErrorIs(t, os.WriteFile(path, []byte{1}, 0o600), unix.EPERM)
	require.NoError(t, e.Set(bootVariable(2, 3)))
	now, err := fileFlags(path)
	require.NoError(t, err)
	require.Equal(t, flags|fsImmutable, now)
	require.NoError(t, e.Delete("Boot0001", efi.GlobalVariable))
}

func TestEFIVarFSOpen(t *testing.T) {
	dir := t.TempDir()
	_, err := OpenEFIVarFS(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	_, err = OpenEFIVarFS(filepath.Join(dir, "file"))
	require.ErrorIs(t, err, unix.ENOTDIR)
	var st unix.Statfs_t
	if err := unix.Statfs(efivarfsDir, &st); err != nil || uint32(st.Type) != unix.EFIVARFS_MAGIC {
		_, err = OpenEFIVarFS("")
		require.ErrorIs(t, err, fs.ErrNotExist, "and no other file system is written to in its place")
	}

	e, err := OpenEFIVarFS(dir)
	require.NoError(t, err)
	_, known, err := e.Free()
	require.NoError(t, err)
	require.False(t, known, "a plain directory says nothing about firmware")
	_, known = freeVariables(unix.Statfs_t{Bsize: 4096})
	require.False(t, known, "before Linux 6.6, nothing is not zero")
	free, known := freeVariables(unix.Statfs_t{Bsize: 1, Blocks: 262044, Bfree: 247863, Bavail: 242743})
	require.True(t, known)
	require.Equal(t, int64(242743), free)
	free, known = freeVariables(unix.Statfs_t{Bsize: 1, Blocks: 262044, Bfree: 5000})
	require.True(t, known)
	require.Zero(t, free)
	require.NoError(t, os.Remove(filepath.Join(dir, "file")))
	require.NoError(t, os.Remove(dir))
	_, _, err = e.Free()
	require.ErrorIs(t, err, fs.ErrNotExist)
}
