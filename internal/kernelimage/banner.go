package kernelimage

import (
	"bytes"
	"errors"
	"io"
	"strings"
)

// MaxVersion bounds a version string with the builder behind it.
const MaxVersion = 128

// bannerBuffer is how much is read at a time.
const bannerBuffer = 256 << 10

// BeforeBuilder is VERSION of "VERSION (BUILDER) ...".
func BeforeBuilder(b []byte) (string, bool) {
	uname, rest, ok := bytes.Cut(b, []byte(" "))
	return string(uname), ok && bytes.HasPrefix(rest, []byte("(")) && validUname(string(uname))
}

var ErrNoBanner = errors.New("no banner (Linux version) in the kernel")

// FindBanner looks for "Linux version VERSION (BUILDER)" (Linux, init/version.c), which stands in
// the kernel's read-only data. The same words with something else behind them are a text of their
// own.
func FindBanner(r io.Reader) (string, error) {
	banner := []byte("Linux version ")
	const tail = MaxVersion // what may have to be looked at again with the next bytes
	buf := make([]byte, 0, bannerBuffer)
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return "", err
		}
		// A match too close to the end waits for more bytes.
		end := len(buf)
		for at := 0; ; {
			i := bytes.Index(buf[at:], banner)
			if i < 0 {
				break
			}
			at += i
			if !last && len(buf)-at < tail {
				end = at
				break
			}
			text := buf[at+len(banner) : min(at+tail, len(buf))]
			if uname, ok := BeforeBuilder(text); ok && uname[0] >= '0' && uname[0] <= '9' {
				return uname, nil
			}
			at += len(banner)
		}
		if last {
			return "", ErrNoBanner
		}
		if end == len(buf) {
			end -= len(banner)
		}
		buf = buf[:copy(buf[:cap(buf)], buf[end:])]
	}
}

// validUname reports whether s can be a kernel release: what Kbuild and distributions put there.
func validUname(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("._+~:-", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
