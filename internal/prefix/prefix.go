// Package prefix puts the name of a package in front of the errors that leave it, once. Errors
// inside a package carry no prefix, so that they can be nested, and so that no text has to be cut
// later; its exported functions add it:
//
//	func Open(r osmith.Source) (f *File, err error) {
//		defer prefix.Add("uki", &err)
//		...
//	}
package prefix

import "io"

// Add names pkg in front of *err, unless it is nil or pkg has done so already.
func Add(pkg string, err *error) {
	if *err == nil {
		return
	}
	if e, ok := (*err).(*named); ok && e.pkg == pkg {
		return
	}
	*err = &named{pkg, *err}
}

// Error is [Add] for an error that is about to be returned.
func Error(pkg string, err error) error {
	Add(pkg, &err)
	return err
}

// Bare is err without the name that [Add] put in front of it: for an exported function that another
// function of the same package calls, and wraps.
func Bare(err error) error {
	if e, ok := err.(*named); ok {
		return e.err
	}
	return err
}

// Reader puts the name in front of the errors of a reader that leaves the package, but io.EOF.
func Reader(pkg string, r io.ReadCloser) io.ReadCloser { return &reader{pkg, r} }

type reader struct {
	pkg string
	r   io.ReadCloser
}

func (r *reader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	if err != io.EOF {
		Add(r.pkg, &err)
	}
	return n, err
}

func (r *reader) Close() error { return Error(r.pkg, r.r.Close()) }

type named struct {
	pkg string
	err error
}

func (e *named) Error() string { return e.pkg + ": " + e.err.Error() }
func (e *named) Unwrap() error { return e.err }
