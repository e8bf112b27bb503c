package bootloader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// EFIVarFS are the variables of the running machine, through the file system efivarfs (Linux,
// Documentation/filesystems/efivarfs.rst), or a copy of it in a plain directory. Writing needs
// root.
type EFIVarFS struct {
	dir   string
	real  bool // not a plain directory
	calls efivarCalls
}

// efivarCalls are the system calls that change something.
type efivarCalls struct {
	flags    func(path string) (int, error) // FS_IOC_GETFLAGS
	setFlags func(path string, flags int) error
	open     func(path string, flags int) (fd int, err error)
	write    func(fd int, b []byte) (int, error)
	unlink   func(path string) error
}

// fsImmutable is FS_IMMUTABLE_FL (Linux, include/uapi/linux/fs.h).
const fsImmutable = 0x10

const efivarfsDir = "/sys/firmware/efi/efivars"

// OpenEFIVarFS opens the directory of efivarfs; "" is /sys/firmware/efi/efivars. If firmware is not
// UEFI, or efivarfs is not mounted there, the error is an [fs.ErrNotExist].
func OpenEFIVarFS(dir string) (e *EFIVarFS, err error) {
	defer prefix.Add("bootloader", &err)
	e = &EFIVarFS{dir: dir, calls: efivarCalls{flags: fileFlags, setFlags: setFileFlags, write: unix.Write, unlink: unix.Unlink,
		open: func(path string, flags int) (int, error) { return unix.Open(path, flags, 0o644) }}}
	if dir == "" {
		e.dir = efivarfsDir
	}
	info, err := os.Stat(e.dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, &os.PathError{Op: "open", Path: e.dir, Err: unix.ENOTDIR}
	}
	st, err := e.statfs()
	if err != nil {
		return nil, err
	}
	e.real = uint32(st.Type) == unix.EFIVARFS_MAGIC
	if dir == "" && !e.real {
		return nil, fmt.Errorf("%w: efivarfs is not mounted at %s", fs.ErrNotExist, e.dir)
	}
	return e, nil
}

func (e *EFIVarFS) statfs() (st unix.Statfs_t, err error) {
	if err := again(func() error { return unix.Statfs(e.dir, &st) }); err != nil {
		return st, &os.PathError{Op: "statfs", Path: e.dir, Err: err}
	}
	return st, nil
}

// Open opens the file of a variable, or the directory as ".".
func (e *EFIVarFS) Open(name string) (fs.File, error) { return os.DirFS(e.dir).Open(name) }

// Free is how many more bytes the kernel lets variables take, including names and headers. known
// is false before Linux 6.6, if firmware does not report it, and for a plain directory.
func (e *EFIVarFS) Free() (bytes int64, known bool, err error) {
	defer prefix.Add("bootloader", &err)
	st, err := e.statfs()
	if err != nil || !e.real {
		return 0, false, err
	}
	bytes, known = freeVariables(st)
	return bytes, known, nil
}

// freeVariables reads what efivarfs says since Linux 6.6: sizes in bytes by QueryVariableInfo, and
// as available what the kernel does not keep back. Before that, and where the query fails, all are
// zero.
func freeVariables(st unix.Statfs_t) (bytes int64, known bool) {
	if st.Blocks == 0 {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}

// Set is documented with [VariableStore]. The immutable flag by which the kernel keeps variables
// from being deleted by accident is removed from the file, and restored afterwards if it was set;
// attributes and content are written in one write, and read back ([*VariableMismatchError]). A
// variable that cannot be read is not written. A failed write of a new variable leaves no file.
//
// ENOSPC is [ErrNoSpace], EROFS, and EPERM or EACCES of the write itself, [ErrVariableReadOnly],
// EINVAL and ENOSYS, by which the kernel and firmware refuse what they do not understand,
// [ErrVariableRefused] alone. Without root the error is an [fs.ErrPermission] instead. After any
// other error, such as EIO, it is unknown which value firmware has.
func (e *EFIVarFS) Set(v EFIVariable) (err error) {
	defer prefix.Add("bootloader", &err)
	if err := checkVariable(v); err != nil {
		return err
	}
	have, err := readVariable(e, v.Name, v.Vendor)
	isNew := errors.Is(err, fs.ErrNotExist)
	switch {
	case isNew:
	case err != nil:
		return err
	case have.equal(v):
		return nil
	case have.Attributes != v.Attributes:
		return otherAttributes(v, have.Attributes)
	}
	path := e.path(v.Name, v.Vendor)
	err = e.change(path, func() error {
		err := e.write(path, fileContent(v))
		if err != nil && isNew {
			if gone := e.unlink(path); !errors.Is(gone, fs.ErrNotExist) {
				// newer kernels have removed it
				err = errors.Join(err, gone)
			}
		}
		return err
	})
	if err != nil {
		return &VariableError{v.Name, err}
	}
	got, err := readVariable(e, v.Name, v.Vendor)
	if err == nil && !got.equal(v) {
		err = &VariableError{v.Name, &VariableMismatchError{Want: &v, Got: &got}}
	}
	return err
}

func (e *EFIVarFS) path(name string, vendor osmith.GUID) string {
	return filepath.Join(e.dir, fileName(name, vendor))
}

// change does something to a file without its immutable flag.
func (e *EFIVarFS) change(path string, do func() error) (err error) {
	flags, err := e.calls.flags(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return do()
	case errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return do() // a file system without such flags
	case err != nil:
		return &os.PathError{Op: "get flags", Path: path, Err: err}
	case flags&fsImmutable == 0:
		return do()
	}
	set := func(flags int) error {
		if err := e.calls.setFlags(path, flags); err != nil {
			return &os.PathError{Op: "set flags", Path: path, Err: err}
		}
		return nil
	}
	if err := set(flags &^ fsImmutable); err != nil {
		return err
	}
	err = do()
	if back := set(flags); !errors.Is(back, fs.ErrNotExist) { // it was deleted
		err = errors.Join(err, back)
	}
	return err
}

// write writes a file by one call: efivarfs takes what each call brings as a whole variable.
func (e *EFIVarFS) write(path string, content []byte) error {
	var fd, n int
	err := again(func() (err error) {
		fd, err = e.calls.open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC)
		return err
	})
	if err != nil {
		return refusal("open", path, err)
	}
	// A call that a signal has ended did nothing: the kernel was waiting for others.
	err = again(func() (err error) {
		n, err = e.calls.write(fd, content)
		return err
	})
	if err != nil {
		err = refusal("write", path, err)
	} else if n != len(content) {
		err = &os.PathError{Op: "write", Path: path, Err: fmt.Errorf("wrote only %d of %d bytes", n, len(content))}
	}
	if err == nil && !e.real { // efivarfs has the new size
		err = refusal("truncate", path, unix.Ftruncate(fd, int64(n)))
	}
	return errors.Join(err, unix.Close(fd))
}

// again calls until no signal comes between.
func again(do func() error) error {
	for {
		if err := do(); err != unix.EINTR {
			return err
		}
	}
}

// refusal says of an error of a call whether firmware has refused it.
func refusal(op, path string, err error) error {
	wrapped := &os.PathError{Op: op, Path: path, Err: err}
	switch errno, _ := err.(unix.Errno); {
	case err == nil:
		return nil
	case errno == unix.ENOSPC || errno == unix.EDQUOT:
		return fmt.Errorf("%w: %w", ErrNoSpace, wrapped)
	case errno == unix.EROFS, op == "write" && (errno == unix.EPERM || errno == unix.EACCES):
		return fmt.Errorf("%w: %w", ErrVariableReadOnly, wrapped)
	case op != "open" && (errno == unix.EINVAL || errno == unix.ENOSYS):
		return fmt.Errorf("%w: %w", ErrVariableRefused, wrapped)
	}
	return wrapped
}

// Delete is documented with [VariableStore]; its errors are those of Set.
func (e *EFIVarFS) Delete(name string, vendor osmith.GUID) (err error) {
	defer prefix.Add("bootloader", &err)
	path := e.path(name, vendor)
	if err := e.unlink(path); err != nil {
		return &VariableError{name, err}
	}
	return nil
}

func (e *EFIVarFS) unlink(path string) error {
	return e.change(path, func() error {
		return refusal("unlink", path, again(func() error { return e.calls.unlink(path) }))
	})
}

func fileFlags(path string) (flags int, err error) {
	err = withFile(path, func(fd int) (err error) {
		flags, err = unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
		return err
	})
	return flags, err
}

func setFileFlags(path string, flags int) error {
	return withFile(path, func(fd int) error { return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags) })
}

func withFile(path string, do func(fd int) error) error {
	var fd int
	err := again(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(again(func() error { return do(fd) }), unix.Close(fd))
}
