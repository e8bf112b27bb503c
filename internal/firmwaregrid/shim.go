package firmwaregrid

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// A ShimGrid is images for one machine that starts them through shim, and what its variables have.
type ShimGrid struct {
	Cases                      []Case
	DB, DBX, MokList, MokListX []byte
	Level                      string // SbatLevel
}

const (
	sbatLine = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"
	gridLine = "grid,2,Grid,grid,1,https://example.org\n"
)

// sbatKinds are contents of .sbat. Their images are signed by the authority in db.
var sbatKinds = []struct {
	name, content string
}{
	{"ordinary", sbatLine + gridLine},
	{"generation-too-low", sbatLine + strings.Replace(gridLine, ",2,", ",1,", 1)},
	{"generation-higher", sbatLine + strings.Replace(gridLine, ",2,", ",65535,", 1)},
	{"generation-0", sbatLine + strings.Replace(gridLine, ",2,", ",0,", 1)},
	{"generation-negative", sbatLine + strings.Replace(gridLine, ",2,", ",-1,", 1)},
	{"generation-65536", sbatLine + strings.Replace(gridLine, ",2,", ",65536,", 1)},
	{"generation-65538", sbatLine + strings.Replace(gridLine, ",2,", ",65538,", 1)},
	{"generation-of-letters", sbatLine + strings.Replace(gridLine, ",2,", ",two,", 1)},
	{"generation-with-tail", sbatLine + strings.Replace(gridLine, ",2,", ",2x,", 1)},
	{"generation-with-a-space", sbatLine + strings.Replace(gridLine, ",2,", ", 2,", 1)},
	{"component-with-a-space", sbatLine + strings.Replace(gridLine, "grid,2", "grid ,2", 1)},
	{"component-in-upper-case", sbatLine + strings.Replace(gridLine, "grid,2", "GRID,1", 1)},
	{"second-line-of-the-component-too-low", sbatLine + gridLine + strings.Replace(gridLine, ",2,", ",1,", 1)},
	{"without-sbat-line", gridLine},
	{"without-last-newline", sbatLine + strings.TrimSuffix(gridLine, "\n")},
	{"five-columns", sbatLine + "grid,2,Grid,grid,1\n"},
	{"seven-columns", sbatLine + strings.Replace(gridLine, "\n", ",more\n", 1)},
	{"empty-column", sbatLine + strings.Replace(gridLine, ",Grid,", ",,", 1)},
	{"two-columns", sbatLine + "grid,2\n"},
	{"carriage-returns", strings.ReplaceAll(sbatLine+gridLine, "\n", "\r\n")},
	{"empty-lines", sbatLine + "\n\n" + gridLine + "\n"},
	{"not-ascii", sbatLine + strings.Replace(gridLine, "Grid", "Gr\xc3\xafd", 1)},
	{"bom", "\xef\xbb\xbf" + sbatLine + gridLine},
	{"nul-inside", sbatLine + gridLine + "\x00" + strings.Replace(gridLine, ",2,", ",1,", 1)},
	{"newlines-alone", "\n\n"},
	{"nul-alone", "\x00"},
	{"quoted", sbatLine + strings.Replace(gridLine, "Grid", "\"Gr,id\"", 1)},
}

// Shim is the grid. Generations below two are too old for its level.
func Shim() *ShimGrid {
	root := issue(nil, "grid root", keys["root"], true, nil)
	mok := issue(nil, "grid mok", keys["ca"], true, nil)
	denied := issue(nil, "grid denied", keys["kek"], true, nil)
	deniedMOK := issue(nil, "grid denied mok", keys["pk"], true, nil)
	stranger := issue(nil, "grid stranger", keys["stranger"], true, nil)
	pinned := issue(stranger, "grid pinned", keys["leaf"], false, nil)
	second := issue(nil, "grid second of its list", keys["rsa3072"], true, nil)
	cert := func(a *authority) []byte { return signatureList(efiX509, a.der) }
	good := section{name: ".sbat", content: []byte(sbatLine + gridLine)}
	two := func() []byte { // a list of two certificates of one size
		twin := issue(nil, "grid first of the list..", keys["rsa3072"], true, nil)
		b := cert(twin)
		if len(twin.der) == len(second.der) {
			b = append(append(b, Owner...), second.der...)
			b[16], b[17] = byte(len(b)), byte(len(b)>>8)
		}
		return b
	}()
	g := &ShimGrid{
		DB: slices.Concat(cert(root), cert(denied)), DBX: cert(denied), MokList: slices.Concat(cert(mok), cert(deniedMOK), cert(pinned), two), MokListX: cert(deniedMOK),
		Level: "sbat,1,2037010100\ngrid,2\n",
	}
	ask := func(name string, image []byte, table func(image []byte) []byte) {
		if table != nil {
			image = withTable(image, table(image))
		}
		g.Cases = append(g.Cases, Case{Name: "shim-" + name, Image: image})
	}
	by := func(a *authority, h crypto.Hash, carried ...*authority) func([]byte) []byte {
		return func(image []byte) []byte {
			m := about(image, a, h)
			for _, c := range carried {
				m.certificates = append(m.certificates, c.der)
			}
			return entry(0x0200, 2, m.der(nil))
		}
	}
	leaf := func(of *authority, name string, change func(*certificate)) *authority {
		return issue(of, "leaf of "+name, keys["leaf"], false, change)
	}
	program := func(name string) []byte { return programWith(name, good) }

	for _, k := range sbatKinds {
		ask("sbat-"+k.name, programWith("sbat "+k.name, section{name: ".sbat", content: []byte(k.content)}), by(leaf(root, k.name, nil), crypto.SHA256))
	}
	ask("sbat-missing", programWith("sbat missing"), by(leaf(root, "missing", nil), crypto.SHA256))
	ask("sbat-twice", programWith("sbat twice", good, good), by(leaf(root, "twice", nil), crypto.SHA256))
	ask("sbat-longer-than-its-content", programWith("sbat longer", section{name: ".sbat", content: []byte(sbatLine + gridLine), size: 0x1000}), by(leaf(root, "longer", nil), crypto.SHA256))
	ask("sbat-shorter-than-its-content", programWith("sbat shorter", section{name: ".sbat", content: []byte(sbatLine + gridLine), size: len(sbatLine)}), by(leaf(root, "shorter", nil), crypto.SHA256))

	ask("unsigned", program("unsigned"), nil)
	ask("stranger", program("stranger"), by(stranger, crypto.SHA256))
	ask("db", program("db"), by(root, crypto.SHA256))
	ask("db-sha1", program("db sha1"), by(root, crypto.SHA1))
	ask("db-sha384", program("db sha384"), by(root, crypto.SHA384))
	ask("db-sha512", program("db sha512"), by(root, crypto.SHA512))
	ask("mok", program("mok"), by(mok, crypto.SHA256))
	ask("mok-leaf", program("mok leaf"), by(leaf(mok, "mok", nil), crypto.SHA256))
	ask("mok-pinned", program("mok pinned"), by(pinned, crypto.SHA256))
	ask("mok-second-of-a-list", program("mok second"), by(second, crypto.SHA256))
	ask("dbx", program("dbx"), by(denied, crypto.SHA256))
	ask("dbx-leaf", program("dbx leaf"), by(leaf(denied, "dbx", nil), crypto.SHA256))
	ask("moklistx", program("moklistx"), by(deniedMOK, crypto.SHA256))
	ask("moklistx-then-mok", program("moklistx then mok"), func(image []byte) []byte {
		return slices.Concat(by(deniedMOK, crypto.SHA256)(image), by(mok, crypto.SHA256)(image))
	})
	ask("mok-then-dbx", program("mok then dbx"), func(image []byte) []byte {
		return slices.Concat(by(mok, crypto.SHA256)(image), by(denied, crypto.SHA256)(image))
	})
	ask("stranger-then-db", program("stranger then db"), func(image []byte) []byte {
		return slices.Concat(by(stranger, crypto.SHA256)(image), by(root, crypto.SHA256)(image))
	})
	for _, h := range []struct {
		name  string
		kind  []byte
		h     crypto.Hash
		list  *[]byte
		table func([]byte) []byte
	}{
		{"hash-in-db", efiSHA256, crypto.SHA256, &g.DB, nil},
		{"hash-in-moklist", efiSHA256, crypto.SHA256, &g.MokList, nil},
		{"sha1-in-db", efiSHA1, crypto.SHA1, &g.DB, nil},
		{"sha1-in-moklist", efiSHA1, crypto.SHA1, &g.MokList, nil},
		{"hash-in-dbx", efiSHA256, crypto.SHA256, &g.DBX, by(root, crypto.SHA256)},
		{"hash-in-moklistx", efiSHA256, crypto.SHA256, &g.MokListX, by(root, crypto.SHA256)},
		{"sha1-in-dbx", efiSHA1, crypto.SHA1, &g.DBX, by(root, crypto.SHA256)},
		{"sha1-in-moklistx", efiSHA1, crypto.SHA1, &g.MokListX, by(mok, crypto.SHA256)},
		{"stranger-and-hash-in-moklist", efiSHA256, crypto.SHA256, &g.MokList, by(stranger, crypto.SHA256)},
		{"dbx-and-hash-in-moklist", efiSHA256, crypto.SHA256, &g.MokList, by(denied, crypto.SHA256)},
	} {
		image := program(h.name)
		sum := digest(image, h.h)
		*h.list = append(*h.list, signatureList(h.kind, sum)...)
		ask(h.name, image, h.table)
	}
	for _, name := range []string{
		"serial-negative", "serial-not-minimal", "v1", "no-extensions", "not-an-authority", "server-only-critical", "critical-unknown", "unknown-twice", "constraints-twice",
		"alt-name-malformed-uri", "expired", "not-yet-valid", "time-of-letters", "permitted-directory-of-another", "rsa-512", "rsa-1024", "rsa-8192", "rsa-exponent-3", "key-of-pss",
		"ec-p256", "signed-md5", "signed-sha1", "signed-sha512", "signed-pss", "algorithms-differ", "signature-unused-bits", "bytes-behind", "length-indefinite", "proxy",
		"key-usage-zero", "encipherment-only", "issuer-in-upper-case", "path-length-0",
	} {
		i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
		k := kinds[i]
		for _, place := range k.places {
			own, signer, carried := keys["leaf"], (*authority)(nil), []*authority(nil)
			if k.key != "" {
				own = keys[k.key]
			}
			what := k.name + " " + string(place)
			switch place {
			case inLeaf:
				signer = issue(mok, "leaf of "+what, own, false, k.change)
			case inBetween:
				if k.key == "" {
					own = keys["leaf"]
				}
				between := issue(mok, "grid "+what, own, true, k.change)
				signer, carried = issue(between, "leaf of "+what, keys["rsa3072"], false, nil), []*authority{between}
			case inItself:
				signer = issue(nil, "grid "+what, own, false, k.change)
				g.MokList = append(g.MokList, cert(signer)...)
			default:
				continue
			}
			ask(strings.ReplaceAll(what, " ", "-"), program(what), by(signer, crypto.SHA256, carried...))
		}
	}
	for _, k := range messageKinds {
		if k.table == nil || k.hash != 0 || k.key != "" || !bytes.Contains([]byte(shimMessages), []byte(" "+k.name+" ")) {
			continue
		}
		q := &question{image: program("message " + k.name), signer: leaf(mok, "message "+k.name, nil), root: mok, hash: crypto.SHA256}
		q.message = about(q.image, q.signer, crypto.SHA256)
		ask("message-"+k.name, q.image, func([]byte) []byte { return k.table(q) })
	}
	return g
}

// shimMessages are the kinds of messages that shim is asked about.
const shimMessages = ` no-attributes no-signing-time no-content-type content-type-data no-message-digest message-digest-twice-wrong-first attributes-not-in-order digest-algorithms-of-two
 digest-algorithms-empty algorithm-unknown algorithm-pss signature-wrong signer-unknown signer-twice second-signer-wrong no-certificates root-carried-first revocation-list
 certificate-malformed-carried bytes-behind-the-message zeros-behind-the-message image-data-of-2.1.21 content-as-octets digest-of-another-image revision-1 type-guid type-pkcs1
 entry-empty-first entry-of-short-message-first zeros-behind-the-entries entry-too-long digest-of-indirect-data-differs `

// State names the variables of the machine.
func (g *ShimGrid) State() string {
	h := sha256.New()
	for _, b := range [][]byte{g.DB, g.DBX, g.MokList, g.MokListX, []byte(g.Level)} {
		sum := sha256.Sum256(b)
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}
