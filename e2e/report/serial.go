package report

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Markers of the serial protocol. Each starts a line; FAIL is followed by a
// space and the reason.
const (
	Begin = "OSMITH-BEGIN"
	End   = "OSMITH-END"
	Fail  = "OSMITH-FAIL"
	Note  = "OSMITH-NOTE"
)

// chunk is the number of payload bytes a line carries. With base64 and the
// frame a line stays under 128 characters.
const chunk = 72

// maxJSON bounds what a report may unpack to; a real one has some 200 KiB.
const maxJSON = 64 << 20

var (
	// ErrNone: the text holds no complete report.
	ErrNone = errors.New("report: no report in the serial output")

	lineRE = regexp.MustCompile(`OSMITH:(\d{5}):([A-Za-z0-9+/=]+):([0-9a-f]{8})`)
	endRE  = regexp.MustCompile(End + ` (\d{5}) ([0-9a-f]{8})`)
)

// Encode returns the report as serial lines, markers included, each ended by
// a newline and small enough for one write.
func Encode(r *Report) ([]string, error) {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if err := json.NewEncoder(z).Encode(r); err != nil {
		return nil, fmt.Errorf("report: encode: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("report: encode: %w", err)
	}
	body := buf.Bytes()
	lines := []string{"\n" + Begin + "\n"}
	n := 0
	for rest := body; len(rest) > 0; n++ {
		part := rest[:min(chunk, len(rest))]
		rest = rest[len(part):]
		lines = append(lines, fmt.Sprintf("OSMITH:%05d:%s:%08x\n", n, base64.StdEncoding.EncodeToString(part), crc32.ChecksumIEEE(part)))
	}
	return append(lines, fmt.Sprintf("%s %05d %08x\n", End, n, crc32.ChecksumIEEE(body))), nil
}

// Decode finds the last report in serial output. Anything may stand between
// its lines, and before and after the frame of each; what is missing or damaged
// is named.
func Decode(serial string) (*Report, error) {
	begin := strings.LastIndex(serial, Begin)
	if begin < 0 {
		return nil, ErrNone
	}
	text := serial[begin:]
	loc := endRE.FindStringSubmatchIndex(text)
	if loc == nil {
		return nil, fmt.Errorf("%w: it begins but does not end", ErrNone)
	}
	// The expressions admit nothing but digits, so the numbers parse.
	count, _ := strconv.Atoi(text[loc[2]:loc[3]])
	sum, _ := strconv.ParseUint(text[loc[4]:loc[5]], 16, 32)
	parts := make([][]byte, count)
	for _, m := range lineRE.FindAllStringSubmatch(text[:loc[0]], -1) {
		i, _ := strconv.Atoi(m[1])
		want, _ := strconv.ParseUint(m[3], 16, 32)
		part, err := base64.StdEncoding.DecodeString(m[2])
		if err == nil && i < count && uint64(crc32.ChecksumIEEE(part)) == want {
			parts[i] = part
		}
	}
	var body []byte
	for i, part := range parts {
		if part == nil {
			return nil, fmt.Errorf("report: line %d of %d is missing or damaged", i, count)
		}
		body = append(body, part...)
	}
	if got := crc32.ChecksumIEEE(body); uint64(got) != sum {
		return nil, fmt.Errorf("report: checksum is %08x, the guest computed %08x", got, sum)
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("report: decode: %w", err)
	}
	r := new(Report)
	if err := json.NewDecoder(io.LimitReader(z, maxJSON)).Decode(r); err != nil {
		return nil, fmt.Errorf("report: decode: %w", err)
	}
	return r, nil
}

// Failure returns the reason the guest gave for giving up, if it did.
func Failure(serial string) (string, bool) {
	_, rest, ok := strings.Cut(serial, Fail+" ")
	if !ok {
		return "", false
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line), true
}

// UTF16 decodes little-endian UTF-16 up to the first NUL.
func UTF16(b []byte) string {
	var u []uint16
	for ; len(b) >= 2; b = b[2:] {
		c := uint16(b[0]) | uint16(b[1])<<8
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u))
}
