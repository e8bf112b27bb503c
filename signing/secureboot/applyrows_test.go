package secureboot_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

const (
	newest = secureboot.FirmwareEDK2Stable202608
	oldest = secureboot.FirmwareEDK2Stable202211
)

// signedAs is an update that Update.Sign would not make: under another hash, in a ContentInfo, of
// any content, at any time.
func signedAs(t testing.TB, by secureboot.KeyPair, hash crypto.Hash, bare bool, stamp []byte, name string, payload []byte, add bool) []byte {
	t.Helper()
	vendor, err := secureboot.VendorGUID(name)
	require.NoError(t, err)
	attributes := uint32(0x27)
	if add {
		attributes |= 0x40
	}
	signed := binary.LittleEndian.AppendUint32(efi.AppendGUID(efi.AppendUTF16(nil, name), vendor), attributes)
	signed = append(append(signed, stamp...), payload...)
	h := hash.New()
	h.Write(signed)
	template := cms.Template{Hash: hash, Digest: h.Sum(nil), Certificate: by.Cert, Bare: bare}
	request, err := template.Prepare()
	require.NoError(t, err)
	signature, err := by.Key.Sign(rand.Reader, request.Digest, hash)
	require.NoError(t, err)
	message, err := template.Join(signature)
	require.NoError(t, err)
	b := binary.LittleEndian.AppendUint32(bytes.Clone(stamp), uint32(24+len(message)))
	b = append(b, 0, 2, 0xf1, 0x0e)
	b = efi.AppendGUID(b, osmith.MustParseGUID("4aafd29d-68df-49ee-8aa9-347d375665a7"))
	return append(append(b, message...), payload...)
}

// stamp is EFI_TIME with these fields.
func stamp(year uint16, rest ...byte) []byte {
	b := make([]byte, 16)
	binary.LittleEndian.PutUint16(b, year)
	copy(b[2:], rest)
	return b
}

// What the builds of edk2 make of one update.
func TestApplyRows(t *testing.T) {
	h := hierarchy(t)
	digest := func(n ...byte) []byte {
		var all [][32]byte
		for _, x := range n {
			all = append(all, [32]byte{x})
		}
		return lists(t, secureboot.SHA256List(owner, all...))
	}
	machine := enrolled(t, h).Variables
	machine.DBX = digest(1)
	cut := machine
	cut.DBX = append(bytes.Clone(machine.DBX), digest(9)[:30]...)
	ragged := machine
	ragged.DBX = append(bytes.Clone(machine.DBX), 1, 2, 3)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ec, err := secureboot.NewKeyPair(ecKey, secureboot.CertificateOptions{CommonName: "ec", NotBefore: from, NotAfter: when})
	require.NoError(t, err)
	byEC := machine
	byEC.KEK = append(bytes.Clone(machine.KEK), lists(t, secureboot.CertificateList(owner, ec.Cert))...)
	noCertificate := header(secureboot.TypeX509, 28, 0, 16, 0)
	at := stamp(2026, 3, 4, 5, 6, 7)
	sha256, add := crypto.SHA256, true
	type answer int
	const (
		takes answer = iota
		refuses
		cannotTell
	)
	for _, c := range []struct {
		name     string
		v        osmith.FirmwareVariables
		auth     []byte
		add      bool
		new, old answer
		content  []byte // of dbx where it is taken
		text     string
	}{
		{"plain", machine, signedAs(t, h.KEK, sha256, true, at, "dbx", digest(2), add), add, takes, takes, append(digest(1), digest(2)...), ""},
		{"the variable is cut off", cut, signedAs(t, h.KEK, sha256, true, at, "dbx", digest(2), add), add, refuses, takes, append(bytes.Clone(cut.DBX), digest(2)...), "signature list 1 of the variable: it is malformed"},
		{"it is, but the search does not come there", cut, signedAs(t, h.KEK, sha256, true, at, "dbx", digest(1), add), add, takes, takes, cut.DBX, ""},
		{"it is, and is replaced", cut, signedAs(t, h.KEK, sha256, true, at, "dbx", digest(2), !add), !add, takes, takes, digest(2), ""},
		{"bytes behind the variable's lists", ragged, signedAs(t, h.KEK, sha256, true, at, "dbx", digest(2), add), add, refuses, cannotTell, nil, "3 bytes"},
		{"the update is cut off", machine, signedAs(t, h.KEK, sha256, true, at, "dbx", digest(2)[:40], add), add, refuses, refuses, nil, "40 are left"},
		{"SHA-384", machine, signedAs(t, h.KEK, crypto.SHA384, true, at, "dbx", digest(2), !add), !add, takes, refuses, digest(2), "accepts only SHA-256 in a bare SignedData, without ContentInfo"},
		{"SHA-512", machine, signedAs(t, h.KEK, crypto.SHA512, true, at, "dbx", digest(2), !add), !add, takes, refuses, digest(2), "accepts only SHA-256 in a bare SignedData, without ContentInfo"},
		{"with ContentInfo", machine, signedAs(t, h.KEK, sha256, false, at, "dbx", digest(2), !add), !add, takes, refuses, digest(2), "accepts only SHA-256 in a bare SignedData, without ContentInfo"},
		{"by an elliptic curve", byEC, signedAs(t, ec, sha256, true, at, "dbx", digest(2), !add), !add, takes, refuses, digest(2), "has a key on an elliptic curve"},
		{"certificates of no bytes", machine, signedAs(t, h.KEK, sha256, true, at, "dbx", noCertificate, !add), !add, takes, refuses, noCertificate, "certificates have no bytes"},
		{"a list without signatures", machine, signedAs(t, h.KEK, sha256, true, at, "dbx", header(secureboot.TypeSHA256, 28, 0, 48, 0), !add), !add, takes, takes, header(secureboot.TypeSHA256, 28, 0, 48, 0), ""},
		{"a time that is none", machine, signedAs(t, h.KEK, sha256, true, stamp(2026, 13, 40), "dbx", digest(2), !add), !add, takes, takes, digest(2), ""},
		{"no time, appended", machine, signedAs(t, h.KEK, sha256, true, stamp(0), "dbx", digest(2), add), add, takes, takes, append(digest(1), digest(2)...), ""},
		{"nothing, appended", machine, signedAs(t, h.KEK, sha256, true, at, "dbt", nil, add), add, takes, takes, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			variable := "dbx"
			if c.name == "nothing, appended" {
				variable, c.content = "dbt", nil
			}
			p := secureboot.Pending{Variable: variable, Auth: c.auth, Append: c.add}
			for i, row := range []secureboot.Firmware{newest, oldest} {
				want, other := c.new, c.old
				if i == 1 {
					want, other = c.old, c.new
				}
				var differs, undecided []secureboot.Firmware
				switch {
				case other == cannotTell:
					undecided = []secureboot.Firmware{[]secureboot.Firmware{oldest, newest}[i]}
				case (other == takes) != (want == takes):
					differs = []secureboot.Firmware{[]secureboot.Firmware{oldest, newest}[i]}
				}
				a, err := secureboot.ApplyWith(c.v, p, secureboot.ApplyOptions{Firmware: row})
				if want == takes {
					require.NoError(t, err)
					require.Equal(t, string(c.content), string(secureboot.Content(a.Variables, variable)))
					require.Equal(t, differs, a.Differs)
					require.Equal(t, undecided, a.Undecided)
					continue
				}
				require.Equal(t, secureboot.Applied{}, a)
				refused, ok := errors.AsType[*secureboot.RefusedError](err)
				require.True(t, ok, "%v", err)
				require.Equal(t, want == cannotTell, refused.Unknown, "%v", err)
				require.Equal(t, differs, refused.Differs)
				require.Equal(t, undecided, refused.Undecided)
				require.ErrorContains(t, err, c.text)
				require.Equal(t, len(differs) > 0, bytes.Contains([]byte(err.Error()), []byte("would accept it)")))
				require.Equal(t, want == cannotTell, bytes.Contains([]byte(err.Error()), []byte("whether firmware accepts the update of dbx is unknown")))
			}
			// Apply is the newest row, and firmware of which nothing is known takes what all take.
			after, err := secureboot.Apply(c.v, p)
			require.Equal(t, c.new == takes, err == nil, "%v", err)
			if err == nil {
				require.Equal(t, string(c.content), string(secureboot.Content(after, variable)))
			}
			a, err := secureboot.ApplyWith(c.v, p, secureboot.ApplyOptions{Firmware: secureboot.FirmwareAny})
			require.Equal(t, c.new == takes && c.old == takes, err == nil, "%v", err)
			if err != nil {
				refused, ok := errors.AsType[*secureboot.RefusedError](err)
				require.True(t, ok)
				require.Equal(t, c.new != refuses && c.old != refuses, refused.Unknown)
				require.Equal(t, secureboot.Applied{}, a)
			}
		})
	}
	p := secureboot.Pending{Variable: "dbx", Auth: signedAs(t, h.KEK, sha256, true, at, "dbx", digest(2), add), Append: true}
	_, err = secureboot.ApplyWith(machine, p, secureboot.ApplyOptions{Firmware: "edk3"})
	require.ErrorContains(t, err, `firmware "edk3"`)
	_, refused := errors.AsType[*secureboot.RefusedError](err)
	require.False(t, refused)
}

// The row of a machine is that of its pending updates and of its rotation too.
func TestRowIsHandedOn(t *testing.T) {
	h := hierarchy(t)
	v := enrolled(t, h).Variables
	payload := lists(t, secureboot.SHA256List(owner, [32]byte{2}))
	p := secureboot.Pending{Variable: "dbx", Auth: signedAs(t, h.KEK, crypto.SHA384, true, stamp(2026, 1, 1), "dbx", payload, false)}
	images := []secureboot.Image{signed("x", h.DB)}
	for row, refused := range map[secureboot.Firmware]bool{"": false, newest: false, oldest: true, secureboot.FirmwareAny: true} {
		e := secureboot.EvaluateSet(v, images, secureboot.EvaluateSetOptions{Pending: []secureboot.Pending{p}, Firmware: row})
		require.Equal(t, refused, e.Refused != nil, row)
		require.Equal(t, !refused, e.Allowed(), row)
		if !refused {
			require.Contains(t, e.String(), "warning: pending update 1, of dbx: edk2-2022.11 refuses it or leaves other content")
		} else {
			report, err := e.MarshalJSON()
			require.NoError(t, err)
			require.NotContains(t, string(report), "pendingUnknown")
		}
	}
	ragged := v
	ragged.DBX = append(bytes.Clone(payload), 1)
	p = secureboot.Pending{Variable: "dbx", Auth: signedAs(t, h.KEK, crypto.SHA256, true, stamp(2026, 1, 1), "dbx", payload, true), Append: true}
	e := secureboot.EvaluateSet(ragged, nil, secureboot.EvaluateSetOptions{Pending: []secureboot.Pending{p}})
	require.NoError(t, e.Refused, "what is appended stands before the place")
	p.Auth = signedAs(t, h.KEK, crypto.SHA256, true, stamp(2026, 1, 1), "dbx", lists(t, secureboot.SHA256List(owner, [32]byte{3})), true)
	e = secureboot.EvaluateSet(ragged, nil, secureboot.EvaluateSetOptions{Pending: []secureboot.Pending{p}, Firmware: oldest})
	require.ErrorContains(t, e.Refused, "whether firmware accepts the update of dbx is unknown")
	require.False(t, e.Allowed())
	report, err := e.MarshalJSON()
	require.NoError(t, err)
	require.Contains(t, string(report), `"pendingUnknown":true`)

	e = secureboot.EvaluateSet(enrolled(t, h).Variables, nil, secureboot.EvaluateSetOptions{Pending: []secureboot.Pending{p}, Firmware: secureboot.FirmwareAny})
	require.NoError(t, e.Refused)
	require.Contains(t, e.String(), "warning: pending update 1, of dbx: it cannot be told whether u-boot-2026.10")

	// A rotation to a key that one row cannot use.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ec, err := secureboot.NewKeyPair(key, secureboot.CertificateOptions{CommonName: "ec", NotBefore: from, NotAfter: when})
	require.NoError(t, err)
	image := secureboot.Image{Name: "ec.efi", Digests: signed("x", h.DB).Digests, Certificates: signed("x", ec).Certificates}
	v.DB = append(bytes.Clone(v.DB), lists(t, secureboot.CertificateList(owner, ec.Cert))...)
	fresh := &secureboot.Hierarchy{Owner: owner, PK: foreignHierarchy(t).PK}
	o := secureboot.RotationOptions{Machine: v, Old: h, New: fresh, Time: when, MustBoot: []secureboot.Image{image}}
	r, err := secureboot.PlanRotation(o)
	require.NoError(t, err)
	require.Empty(t, r.Firmware)
	for _, row := range []secureboot.Firmware{oldest, secureboot.FirmwareAny} {
		o.Firmware = row
		_, err = secureboot.PlanRotation(o)
		lockout, ok := errors.AsType[*secureboot.LockoutError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, "today", lockout.When)
	}
	o.Firmware, o.MustBoot = oldest, images
	r, err = secureboot.PlanRotation(o)
	require.NoError(t, err)
	b, err := r.MarshalJSON()
	require.NoError(t, err)
	require.Contains(t, string(b), `"firmware":"edk2-2022.11"`)
	var again secureboot.Rotation
	require.NoError(t, again.UnmarshalJSON(b))
	require.Equal(t, oldest, again.Firmware)
	again.ReachedIn = "a"
	_, err = again.Next(secureboot.State{Variables: v, BootID: "b", Images: []secureboot.Image{image}})
	stuck, ok := errors.AsType[*secureboot.LockoutError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "today", stuck.When)
	again.Firmware = newest
	_, err = again.Next(secureboot.State{Variables: v, BootID: "b", Images: []secureboot.Image{image}})
	require.NoError(t, err)
	require.ErrorContains(t, again.UnmarshalJSON(bytes.Replace(b, []byte("edk2-2022.11"), []byte("edk3"), 1)), `firmware "edk3"`)
	o.Firmware = "edk3"
	_, err = secureboot.PlanRotation(o)
	require.ErrorContains(t, err, `rotation: unknown firmware "edk3"`)
}

// A rotation whose steps one row refuses, since the KEK has a key on an elliptic curve, or after
// which it does not start the images.
func TestRotationOnARow(t *testing.T) {
	h := *hierarchy(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	h.KEK, err = secureboot.NewKeyPair(key, secureboot.CertificateOptions{CommonName: "ec", NotBefore: from, NotAfter: when})
	require.NoError(t, err)
	v := enrolled(t, hierarchy(t)).Variables
	v.KEK = lists(t, secureboot.CertificateList(owner, h.KEK.Cert))
	images := []secureboot.Image{signed("x", h.DB)}
	o := secureboot.RotationOptions{Machine: v, Old: &h, New: &secureboot.Hierarchy{DB: foreignHierarchy(t).DB}, Time: when, MustBoot: images, OptionROMs: nothingElse.OptionROMs}
	r, err := secureboot.PlanRotation(o)
	require.NoError(t, err)
	isRefused := func(err error) {
		t.Helper()
		_, ok := errors.AsType[*secureboot.RefusedError](err)
		require.True(t, ok, "%v", err)
	}
	o.Firmware = oldest
	_, err = secureboot.PlanRotation(o)
	isRefused(err)

	state := secureboot.State{Variables: v, BootID: "a", Images: images}
	action, err := r.Next(state)
	require.NoError(t, err)
	require.Equal(t, secureboot.ActionWrite, action.Kind)
	r.Firmware = oldest
	_, err = r.Next(state)
	isRefused(err)

	// Behind the first step the installation comes, and what follows it is tried.
	state.Variables, err = secureboot.Apply(v, action.Step.Pending)
	require.NoError(t, err)
	for _, boot := range []string{"b", "c"} {
		state.BootID, r.Firmware = boot, newest
		action, err = r.Next(state)
		require.NoError(t, err)
	}
	require.Equal(t, secureboot.ActionInstall, action.Kind)
	r.Firmware = oldest
	_, err = r.Next(state)
	isRefused(err)
}

// Times that are no dates are compared as firmware does, field by field.
func TestApplyTimes(t *testing.T) {
	h := hierarchy(t)
	v := enrolled(t, h).Variables
	v.DBX = lists(t, secureboot.SHA256List(owner, [32]byte{1}))
	v.Times = map[string]time.Time{"dbx": time.Date(2026, 3, 31, 23, 59, 59, 0, time.UTC)}
	payload := lists(t, secureboot.SHA256List(owner, [32]byte{2}))
	for _, c := range []struct {
		stamp []byte
		takes bool
		after time.Time
	}{
		{stamp(2026, 3, 32), true, time.Time{}},
		{stamp(2026, 3, 31, 23, 59, 60), true, time.Time{}},
		{stamp(2026, 3, 31, 23, 59, 59), false, time.Time{}},
		{stamp(2026, 0, 99), false, time.Time{}},
		{stamp(2026, 4, 1), true, time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)},
		{stamp(0), false, time.Time{}},
	} {
		auth := signedAs(t, h.KEK, crypto.SHA256, true, c.stamp, "dbx", payload, false)
		a, err := secureboot.ParseAuth(auth)
		require.NoError(t, err)
		after, err := secureboot.Apply(v, secureboot.Pending{Variable: "dbx", Auth: auth})
		require.Equal(t, c.takes, err == nil, "%v", err)
		if !c.takes {
			_, stale := errors.AsType[*secureboot.StaleError](err)
			require.True(t, stale)
			continue
		}
		require.Equal(t, c.after, a.Time)
		when, known := after.Times["dbx"]
		require.Equal(t, !c.after.IsZero(), known)
		require.Equal(t, c.after, when)
	}
	// An append keeps the later of both.
	for _, c := range []struct {
		stamp []byte
		known bool
	}{{stamp(2026, 3, 32), false}, {stamp(2025, 13, 1), true}} {
		auth := signedAs(t, h.KEK, crypto.SHA256, true, c.stamp, "dbx", payload, true)
		after, err := secureboot.Apply(v, secureboot.Pending{Variable: "dbx", Auth: auth, Append: true})
		require.NoError(t, err)
		when, known := after.Times["dbx"]
		require.Equal(t, c.known, known)
		if known {
			require.Equal(t, v.Times["dbx"], when)
		}
	}
}

// What edk2 does with dbr, and with an append to PK, does not follow from the variables.
func TestApplyCannotTell(t *testing.T) {
	h, f := hierarchy(t), foreignHierarchy(t)
	v := enrolled(t, h).Variables
	payload := lists(t, secureboot.CertificateList(owner, f.DB.Cert))
	at := stamp(2026, 1, 1)
	filled := v
	filled.DBR = payload
	setup := osmith.FirmwareVariables{SetupMode: []byte{1}}
	broken := v
	broken.KEK = append(header(secureboot.TypeX509, 0, 0, 16, 0), v.KEK...)
	brokenPK := v
	brokenPK.PK = append(header(secureboot.TypeX509, 0, 0, 16, 0), v.PK...)
	two := append(lists(t, secureboot.CertificateList(owner, f.PK.Cert)), payload...)
	behind := v
	behind.KEK = append(bytes.Clone(v.KEK), 1)
	type P = secureboot.Pending
	dbr := func(by secureboot.KeyPair) P {
		return P{Variable: "dbr", Auth: signedAs(t, by, crypto.SHA256, true, at, "dbr", payload, false)}
	}
	for name, c := range map[string]struct {
		v       osmith.FirmwareVariables
		p       P
		takes   bool
		unknown bool
	}{
		"a first dbr by KEK":               {v, dbr(h.KEK), true, false},
		"a first dbr by PK":                {v, dbr(h.PK), true, false},
		"a first dbr by somebody":          {v, dbr(f.KEK), false, true},
		"a first dbr of other content":     {v, P{Variable: "dbr", Auth: signedAs(t, h.KEK, crypto.SHA256, true, at, "db", payload, false)}, false, false},
		"another dbr":                      {filled, dbr(h.KEK), false, true},
		"dbr in Setup Mode":                {setup, dbr(f.KEK), true, false},
		"dbr of other content, Setup Mode": {setup, P{Variable: "dbr", Auth: signedAs(t, h.KEK, crypto.SHA256, true, at, "db", payload, false)}, false, false},
		"PK, appended":                     {v, P{Variable: "PK", Append: true, Auth: signedAs(t, h.PK, crypto.SHA256, true, at, "PK", payload, true)}, false, true},
		"PK, replaced by two":              {v, P{Variable: "PK", Auth: signedAs(t, h.PK, crypto.SHA256, true, at, "PK", two, false)}, false, false},
		"a first PK of a digest":           {setup, P{Variable: "PK", Auth: signedAs(t, h.PK, crypto.SHA256, true, at, "PK", lists(t, secureboot.SHA256List(owner, [32]byte{1})), false)}, false, false},
		"PK has a list of size 0":          {brokenPK, P{Variable: "db", Auth: signedAs(t, f.KEK, crypto.SHA256, true, at, "db", payload, false)}, false, true},
		"it has, but KEK leads there":      {brokenPK, P{Variable: "db", Auth: signedAs(t, h.KEK, crypto.SHA256, true, at, "db", payload, false)}, true, false},
		"it has, and all was changed":      {brokenPK, P{Variable: "db", Auth: signedAs(t, f.KEK, crypto.SHA256, true, at, "dbx", payload, false)}, false, false},
		"KEK has a list of size 0":         {broken, P{Variable: "db", Auth: signedAs(t, h.KEK, crypto.SHA256, true, at, "db", payload, false)}, false, true},
		"behind the certificate, KEK ends": {behind, P{Variable: "db", Auth: signedAs(t, h.KEK, crypto.SHA256, true, at, "db", payload, false)}, true, false},
		"by nobody, and KEK ends":          {behind, P{Variable: "db", Auth: signedAs(t, f.KEK, crypto.SHA256, true, at, "db", payload, false)}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			after, err := secureboot.Apply(c.v, c.p)
			if c.takes {
				require.NoError(t, err)
				require.Equal(t, payload, secureboot.Content(after, c.p.Variable))
				return
			}
			refused, ok := errors.AsType[*secureboot.RefusedError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, c.unknown, refused.Unknown, "%v", err)
		})
	}
}

// In Setup Mode nothing but lengths and lists is looked at.
func TestApplySetupMode(t *testing.T) {
	payload := lists(t, secureboot.CertificateList(owner, hierarchy(t).DB.Cert))
	b := binary.LittleEndian.AppendUint32(bytes.Repeat([]byte{0xff}, 16), 30)
	b = append(append(b, make([]byte, 26)...), payload...)
	after, err := secureboot.Apply(osmith.FirmwareVariables{SetupMode: []byte{1}}, secureboot.Pending{Variable: "db", Auth: b})
	require.NoError(t, err)
	require.Equal(t, payload, after.DB)
	_, err = secureboot.Apply(osmith.FirmwareVariables{}, secureboot.Pending{Variable: "db", Auth: b})
	require.ErrorContains(t, err, "byte 0xff after the seconds")
}

// Advice says what an update was signed for.
func TestApplyAdvice(t *testing.T) {
	h := hierarchy(t)
	v := enrolled(t, h).Variables
	payload := lists(t, secureboot.SHA256List(owner, [32]byte{1}))
	auth := signedAs(t, h.KEK, crypto.SHA256, true, stamp(2026, 1, 1), "dbx", payload, true)
	for _, c := range []struct {
		p    secureboot.Pending
		text string
	}{
		{secureboot.Pending{Variable: "dbx", Auth: auth}, "as a replacement of dbx, by \"CN=Acme OS Key Exchange Key\""},
		{secureboot.Pending{Variable: "dbx", Auth: auth}, "it was signed as an append of dbx: give it as that"},
		{secureboot.Pending{Variable: "db", Auth: auth, Append: true}, "it was signed as an append of dbx: give it as that"},
		{secureboot.Pending{Variable: "dbx", Auth: append(auth[:len(auth)-1:len(auth)-1], 1), Append: true}, "sign it anew"},
	} {
		_, err := secureboot.Apply(v, c.p)
		require.ErrorIs(t, err, secureboot.ErrSignature)
		require.ErrorContains(t, err, c.text)
	}
	_, err := secureboot.Apply(v, secureboot.Pending{Variable: "KEK", Auth: signedAs(t, h.KEK, crypto.SHA256, true, stamp(2026, 1, 1), "KEK", lists(t, secureboot.CertificateList(owner, h.DB.Cert)), true), Append: true})
	require.ErrorContains(t, err, `signed by "CN=Acme OS Key Exchange Key", want the certificate in PK itself, "CN=Acme OS Platform Key"`)
}
