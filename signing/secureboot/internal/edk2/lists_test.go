package edk2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	digests = [16]byte{1}
	x509s   = [16]byte{2}
	types   = ListTypes{
		Known:   map[[16]byte]ListType{digests: {Size: 4}, x509s: {Size: -1, Certificate: true}},
		Name:    func(t [16]byte) string { return fmt.Sprintf("%x", t[0]) },
		Subject: func(c *Certificate) string { return "x" },
	}
	loose = Options{LooseAppend: true, NoEmptyCertificates: true}
)

// list is a signature list with its fields as they are given.
func list(typ [16]byte, size, header, each uint32, body ...byte) []byte {
	b := append([]byte{}, typ[:]...)
	for _, v := range []uint32{size, header, each} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return append(b, body...)
}

// digest lists have entries of 16 bytes for the owner and 4 of data.
func digestList(data ...byte) []byte {
	var body []byte
	for _, d := range data {
		body = append(append(body, make([]byte, 16)...), d, 0, 0, 0)
	}
	return list(digests, uint32(ListHeaderSize+len(body)), 0, 20, body...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestFilterLists(t *testing.T) {
	const unknownText = "not modelled here"
	for _, c := range []struct {
		name       string
		have, more []byte
		fresh      []byte // the newest build's; nil with an error
		err        string
		loose      []byte // of a build before June 2026
		looseErr   string
	}{
		{"new", digestList(1), digestList(2), digestList(2), "", digestList(2), ""},
		{"there", digestList(1, 2), digestList(2), nil, "", nil, ""},
		{"one of three is there", digestList(2), digestList(1, 2, 3), digestList(1, 3), "", digestList(1, 3), ""},
		{"twice in the update", digestList(1), digestList(2, 2), digestList(2, 2), "", digestList(2, 2), ""},
		{"another type", list(x509s, 48, 0, 20, digestList(1)[28:]...), digestList(1), digestList(1), "", digestList(1), ""},
		{"an empty list vanishes", digestList(1), digestList(), nil, "", nil, ""},
		{"nothing", digestList(1), nil, nil, "", nil, ""},
		{"the variable is cut off", join(digestList(1), digestList(3)[:30]), digestList(2), nil, "signature list 1 of the variable: malformed: a size of 48 bytes, want 28 to the 30", digestList(2), ""},
		{"the variable is cut off, but the entry stands before", join(digestList(1), digestList(3)[:30]), digestList(1), nil, "", nil, ""},
		{"the variable is cut off in the header", join(digestList(1), digestList(3)[:22]), digestList(2), nil, "malformed: 22 bytes, want at least 28", digestList(2), ""},
		{"the variable is cut off before the size", join(digestList(1), digestList(3)[:8]), digestList(2), nil, "malformed: 8 bytes", nil, unknownText},
		{"the variable has a list of size 0", list(digests, 0, 0, 20), digestList(2), nil, "malformed: a size of 0", nil, unknownText},
		{"the variable has a list with a header that is too large", list(digests, 48, 21, 20, make([]byte, 20)...), digestList(2), nil, "a header of 21 bytes in a list of 48", nil, unknownText},
		{"and the entry stands behind it", join(list(digests, 48, 21, 20, make([]byte, 20)...), digestList(2)), digestList(2), nil, "a header of 21 bytes", nil, unknownText},
		{"the variable has such a list of another type", list(x509s, 48, 21, 20, make([]byte, 20)...), digestList(2), nil, "a header of 21 bytes", digestList(2), ""},
		{"the variable has a list with bytes left", list(digests, 49, 0, 20, make([]byte, 21)...), digestList(2), nil, "21 bytes of signatures, want a multiple of the size of each, 20", digestList(2), ""},
		{"the variable has a list with signatures of 0 bytes", list(x509s, 28, 0, 0), digestList(2), nil, "malformed: 0 bytes of signatures", digestList(2), ""},
		{"the same, compared", list(digests, 28, 0, 0), list(digests, 28, 0, 0), nil, "signature list 0 of the update", nil, unknownText},
		{"the update is cut off", digestList(1), digestList(2)[:40], nil, "signature list 0 of the update: malformed", nil, ""},
		{"the update is cut off behind a list", digestList(1), join(digestList(2), digestList(3)[:40]), nil, "signature list 1 of the update: malformed", digestList(2), ""},
	} {
		fresh, err := FilterLists(c.have, c.more, Options{})
		check := func(fresh []byte, err error, want []byte, text string) {
			if text != "" {
				require.ErrorContains(t, err, text, c.name)
				require.Equal(t, text == unknownText, IsUnknown(err), "%s: %v", c.name, err)
				require.Nil(t, fresh)
				return
			}
			require.NoError(t, err, c.name)
			require.Equal(t, want, fresh, c.name)
		}
		check(fresh, err, c.fresh, c.err)
		fresh, err = FilterLists(c.have, c.more, loose)
		check(fresh, err, c.loose, c.looseErr)
	}
}

func TestCheckLists(t *testing.T) {
	cert := issue(t, authority("root"), nil, keys()[0], keys()[0])
	certs := func(data []byte) []byte {
		body := append(make([]byte, 16), data...)
		return list(x509s, uint32(ListHeaderSize+len(body)), 0, uint32(len(body)), body...)
	}
	for _, c := range []struct {
		name     string
		b        []byte
		count    int
		err      string
		open     bool
		looseErr string // of a build before March 2026
	}{
		{"nothing", nil, 0, "", false, ""},
		{"three", join(digestList(1, 2), certs(cert.Raw)), 3, "", false, ""},
		{"a list without signatures", digestList(), 0, "", false, ""},
		{"a certificate of 0 bytes", certs(nil), 1, "", false, "its certificates have no bytes"},
		{"a list of such, without signatures", list(x509s, 28, 0, 16), 0, "", false, "its certificates have no bytes"},
		{"no certificate", certs([]byte{1, 2, 3}), 0, "signature list 0: its certificate", false, "its certificate"},
		{"a list without certificates", list(x509s, 28, 0, 20), 0, "beyond the end of the update", true, "beyond the end"},
		{"unknown type", list([16]byte{9}, 48, 0, 20, make([]byte, 20)...), 0, "edk2 has no lists of type 9", false, "no lists"},
		{"other size", list(digests, 49, 0, 21, make([]byte, 21)...), 0, "its signatures have 21 bytes, those of type 1 have 20", false, "have 21"},
		{"header", list(digests, 49, 1, 20, make([]byte, 21)...), 0, "a header of 1 bytes, want none", false, "a header"},
		{"no room for an owner", list(x509s, 28, 0, 15), 0, "want at least the 16 of an owner", false, "an owner"},
		{"bytes left", list(digests, 50, 0, 20, make([]byte, 22)...), 0, "2 bytes are left behind its signatures of 20", false, "are left"},
		{"cut off", digestList(1)[:40], 0, "a size of 48 bytes, and 40 are left", false, "and 40"},
		{"cut off before the size", join(digestList(1), []byte{1, 2, 3}), 0, "3 bytes after the last", true, "3 bytes"},
		{"cut off behind the size", list(digests, 22, 0, 0)[:22], 0, "less than its own header", true, "less than"},
		{"size 0", list(digests, 0, 0, 20), 0, "less than its own header", true, "less than"},
	} {
		count, err := CheckLists(c.b, types, Options{})
		if c.err == "" {
			require.NoError(t, err, c.name)
			require.Equal(t, c.count, count, c.name)
		} else {
			require.ErrorContains(t, err, c.err, c.name)
			require.Equal(t, c.open, IsUnknown(err), "%s: %v", c.name, err)
		}
		if _, err = CheckLists(c.b, types, loose); c.looseErr == "" {
			require.NoError(t, err, c.name)
		} else {
			require.ErrorContains(t, err, c.looseErr, c.name)
		}
	}
	_, err := CheckLists(certs(bytes.Replace(cert.Raw, oidRSA, oidRSAPSS, 1)), types, Options{})
	require.ErrorContains(t, err, `the certificate "x" has no RSA key`)
}

func TestCertificatesOfAVariable(t *testing.T) {
	cert := issue(t, authority("root"), nil, keys()[0], keys()[0])
	body := append(make([]byte, 16), cert.Raw...)
	good := list(x509s, uint32(ListHeaderSize+len(body)), 0, uint32(len(body)), body...)
	for name, c := range map[string]struct {
		b     []byte
		count int
		open  bool
	}{
		"two":                           {join(good, digestList(1), good), 2, false},
		"what cannot be read":           {join(list(x509s, 48, 0, 20, make([]byte, 20)...), good), 1, false},
		"cut off":                       {join(good, good[:len(good)-1]), 1, false},
		"size 0":                        {join(good, list(x509s, 0, 0, 16)), 1, true},
		"signatures of 0 bytes":         {join(good, list(x509s, 28, 0, 0)), 1, true},
		"signatures of less than owner": {join(good, list(x509s, 38, 0, 10, make([]byte, 10)...)), 1, false},
		"a few bytes":                   {join(good, []byte{0}), 1, true},
	} {
		certs, err := Certificates(c.b, x509s, Options{})
		require.Equal(t, c.open, IsUnknown(err), name)
		require.Equal(t, c.open, err != nil, name)
		require.Len(t, certs, c.count, name)
	}
}

func TestTakesDigest(t *testing.T) {
	oid := map[string][]byte{}
	for _, d := range digestHashes {
		oid[d.hash.String()] = d.oid
	}
	message := func(at int, length byte, id []byte) []byte {
		b := make([]byte, at, at+len(id))
		if b[1] = length; at == 32 {
			b[1], b[20] = 0, length
		}
		return append(b, id...)
	}
	for _, c := range []struct {
		message        []byte
		newest, oldest bool
	}{
		{message(13, 0x82, oid["SHA-256"]), true, true},
		{message(13, 0x83, oid["SHA-256"]), true, true}, // firmware masks the byte
		{message(13, 0x81, oid["SHA-256"]), false, false},
		{message(13, 0x82, oid["SHA-384"]), true, false},
		{message(13, 0x82, oid["SHA-512"]), true, false},
		{message(13, 0x82, oid["SHA-224"]), false, false},
		{message(13, 0x82, oid["SHA-1"]), false, false},
		{message(14, 0x82, oid["SHA-256"]), false, false},
		{message(32, 0x82, oid["SHA-256"]), true, false},
		{message(32, 0x81, oid["SHA-256"]), false, false},
		{message(32, 0x82, oid["SHA-512"]), true, false},
		{message(13, 0x82, oid["SHA-256"])[:21], false, false},
		{message(32, 0x82, oid["SHA-256"])[:40], false, false},
		{nil, false, false},
	} {
		require.Equal(t, c.newest, TakesDigest(c.message, Options{}), "%x", c.message)
		require.Equal(t, c.oldest, TakesDigest(c.message, Options{OnlySHA256: true, NoContentInfo: true}), "%x", c.message)
	}
}

// FuzzLists: whatever the bytes, the walks end, and what the newest build appends to what it has is
// taken out the second time.
func FuzzLists(f *testing.F) {
	f.Add(digestList(1, 2), digestList(2, 3))
	f.Add(join(digestList(1), []byte{1, 2}), list(digests, 0, 0, 20))
	f.Fuzz(func(t *testing.T, have, more []byte) {
		_, _ = Certificates(have, x509s, Options{})
		if _, err := FilterLists(have, more, loose); err != nil && err.Error() == "" {
			t.Fatal("an error without a text")
		}
		if _, err := CheckLists(more, types, Options{}); err != nil {
			return
		}
		fresh, err := FilterLists(have, more, Options{})
		if err != nil {
			return
		}
		if again, err := FilterLists(append(append([]byte{}, have...), fresh...), more, Options{}); err == nil && len(again) > 0 {
			t.Fatalf("%x would be appended twice", again)
		}
	})
}
