package secureboot_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

const microsoft = "testdata/microsoft/"

// microsoftMachine has a PK of ours and Microsoft's certificates of these years in KEK.
func microsoftMachine(t testing.TB, years ...int) osmith.FirmwareVariables {
	t.Helper()
	v := enrolled(t, hierarchy(t)).Variables
	v.KEK = nil
	for _, year := range years {
		switch year {
		case 2011:
			v.KEK = append(v.KEK, read(t, "testdata/logs/arch-linux-workstation/KEK")...)
		case 2023:
			a, err := secureboot.ParseAuth(read(t, "testdata/certificates/KEKUpdate_Lenovo_PK10.bin"))
			require.NoError(t, err)
			v.KEK = append(v.KEK, a.Payload...)
		}
	}
	return v
}

// publishedUpdates are files as vendors publish them.
func publishedUpdates(t testing.TB, patterns ...string) (all []secureboot.PublishedUpdate) {
	t.Helper()
	for _, pattern := range patterns {
		names, err := filepath.Glob(filepath.FromSlash(microsoft + pattern))
		require.NoError(t, err)
		require.NotEmpty(t, names, pattern)
		for _, name := range names {
			all = append(all, secureboot.PublishedUpdate{Name: filepath.Base(name), Auth: read(t, name)})
		}
	}
	return all
}

// Microsoft's updates of dbx, by the KEK that signs them: a baseline with single digests, and one
// file with all of them.
func TestChooseUpdates(t *testing.T) {
	updates := publishedUpdates(t, "signedbykek2011/dbx_x64_*", "signedbykek2023/dbx_x64*")
	require.Len(t, updates, 4)
	type taken = map[string]bool
	legacy, single1, single2, composite := "dbx_x64_Legacy.efiauth2", "dbx_x64_2EA557C44B83C0AD6B71EFB7EDCC18B6337AD1C1D682155DD9451B051B62FF40.efiauth2",
		"dbx_x64_86A9482509A434CA61EA4D12B6010A9013E5D3FBFF09B14799EBC87C124BCFF0.efiauth2", "dbx_x64.efiauth2"
	for _, c := range []struct {
		years []int
		want  taken
		left  int
	}{
		{[]int{2011}, taken{legacy: true, single1: true, single2: true, composite: false}, 0},
		{[]int{2023}, taken{legacy: false, single1: false, single2: false, composite: true}, 0},
		{[]int{2011, 2023}, taken{legacy: true, single1: true, single2: true, composite: true}, 0},
		{nil, taken{legacy: false, single1: false, single2: false, composite: false}, 291},
	} {
		v := microsoftMachine(t, c.years...)
		choice, err := secureboot.ChooseUpdates(v, updates, secureboot.ApplyOptions{Firmware: secureboot.FirmwareAny})
		require.NoError(t, err)
		require.Len(t, choice.Missing["dbx"], 291, "the baseline's 289 and two")
		require.Len(t, choice.StillMissing["dbx"], c.left)
		news := map[string]int{legacy: 289, single1: 1, single2: 1, composite: 291}
		for _, u := range choice.Updates {
			require.Equal(t, "dbx", u.Variable)
			require.True(t, u.Append)
			require.Len(t, u.New, news[u.Name])
			require.Equal(t, c.want[u.Name], u.Refused == nil, "%s: %v", u.Name, u.Refused)
			if u.Refused != nil {
				require.ErrorIs(t, u.Refused, secureboot.ErrUntrusted)
			}
		}
		if c.left > 0 {
			require.Equal(t, v.DBX, choice.After.DBX)
			continue
		}
		// In any order the machine has the same in the end.
		for i := range 12 {
			shuffled := append([]secureboot.PublishedUpdate{}, updates...)
			rand.New(rand.NewPCG(uint64(i), 1)).Shuffle(len(shuffled), func(i, k int) { shuffled[i], shuffled[k] = shuffled[k], shuffled[i] })
			other, err := secureboot.ChooseUpdates(v, shuffled, secureboot.ApplyOptions{})
			require.NoError(t, err)
			same, err := secureboot.SameContent(choice.After.DBX, other.After.DBX)
			require.NoError(t, err)
			require.True(t, same)
		}
		again, err := secureboot.ChooseUpdates(choice.After, updates, secureboot.ApplyOptions{})
		require.NoError(t, err)
		require.Empty(t, again.Missing)
		require.Equal(t, choice.After.DBX, again.After.DBX)
	}

	// An update of KEK opens the door to those that it signs, wherever it stands in the set.
	kek := secureboot.PublishedUpdate{Name: "KEK", Auth: read(t, "testdata/certificates/KEKUpdate_Lenovo_PK10.bin")}
	a, err := secureboot.ParseAuth(kek.Auth)
	require.NoError(t, err)
	lenovo := machineWithPK(t, a)
	choice, err := secureboot.ChooseUpdates(lenovo, append(publishedUpdates(t, "signedbykek2023/dbx_x64*"), kek), secureboot.ApplyOptions{})
	require.NoError(t, err)
	require.NoError(t, choice.Updates[0].Refused)
	require.Equal(t, "KEK", choice.Updates[1].Variable)
	require.Len(t, choice.Missing["KEK"], 1)
	require.Empty(t, choice.StillMissing)

	// What is wrong with a file is said, and the others are chosen all the same.
	replacing, err := hierarchy(t).SignUpdate(secureboot.Update{Variable: "dbx", Payload: lists(t, secureboot.SHA256List(owner, [32]byte{1})), Time: when})
	require.NoError(t, err)
	changed := bytes.Clone(updates[0].Auth)
	changed[len(changed)-1] ^= 1
	odd := signedAs(t, hierarchy(t).KEK, crypto.SHA256, true, stamp(2026, 1, 1), "dbx", []byte("no list"), true)
	set := append([]secureboot.PublishedUpdate{{Name: "garbage", Auth: []byte("x")}, {Name: "changed", Auth: changed}, {Name: "replacing", Auth: replacing}, {Name: "odd", Auth: odd}}, updates...)
	choice, err = secureboot.ChooseUpdates(microsoftMachine(t, 2011), set, secureboot.ApplyOptions{})
	require.NoError(t, err)
	for i, text := range []string{"want at least", "did not sign this update for any key variable, or the update was changed afterwards", "the update replaces dbx and would remove its current content: apply it separately", "signature list"} {
		refused, ok := errors.AsType[*secureboot.RefusedError](choice.Updates[i].Refused)
		require.True(t, ok)
		require.ErrorContains(t, refused, text)
	}
	require.Empty(t, choice.StillMissing["db"])
	require.Equal(t, []secureboot.MissingEntry{{Type: secureboot.TypeSHA256, Signature: secureboot.Signature{Owner: owner, Data: append([]byte{1}, make([]byte, 31)...)}}}, choice.StillMissing["dbx"])
	_, err = secureboot.ChooseUpdates(osmith.FirmwareVariables{DBX: []byte{1}}, nil, secureboot.ApplyOptions{})
	require.ErrorContains(t, err, "dbx of the machine")
	_, err = secureboot.ChooseUpdates(osmith.FirmwareVariables{}, nil, secureboot.ApplyOptions{Firmware: "edk3"})
	require.ErrorContains(t, err, `unknown firmware "edk3": want one of [edk2-2026.08 edk2-2022.11 u-boot-2026.10 u-boot-2025.01 u-boot-legacy], or "any"`)
}

// Entries of Windows' boot managers are versions, not digests.
func TestSVN(t *testing.T) {
	a, err := secureboot.ParseAuth(read(t, microsoft+"DBXUpdateSVN.bin"))
	require.NoError(t, err)
	var texts []string
	for _, v := range secureboot.SVNs(mustParse(t, a.Payload)) {
		texts = append(texts, v.String())
	}
	require.Equal(t, []string{"bootmgfw.efi 9.0", "cdboot.efi 3.0", "wdsmgfw.efi 3.0"}, texts)
	b, err := secureboot.ParseAuth(read(t, microsoft+"DBXUpdate2024.bin"))
	require.NoError(t, err)
	svn := mustParse(t, a.Payload)[0].Signatures[0]
	v, ok := secureboot.ParseSVN(secureboot.TypeSHA256, svn)
	require.True(t, ok)
	require.Equal(t, "9d132b61-59d5-4388-ab1c-185c3cb2eb92", v.Application.String())
	for name, change := range map[string]func(s *secureboot.Signature, typ *osmith.GUID){
		"owner":    func(s *secureboot.Signature, typ *osmith.GUID) { s.Owner = secureboot.MicrosoftOwner },
		"type":     func(s *secureboot.Signature, typ *osmith.GUID) { *typ = secureboot.TypeSM3 },
		"form":     func(s *secureboot.Signature, typ *osmith.GUID) { s.Data[0] = 2 },
		"reserved": func(s *secureboot.Signature, typ *osmith.GUID) { s.Data[31] = 1 },
		"size":     func(s *secureboot.Signature, typ *osmith.GUID) { s.Data = s.Data[:31] },
	} {
		s, typ := secureboot.Signature{Owner: svn.Owner, Data: bytes.Clone(svn.Data)}, secureboot.TypeSHA256
		change(&s, &typ)
		_, ok := secureboot.ParseSVN(typ, s)
		require.False(t, ok, name)
	}
	require.Equal(t, "01020304-0506-0708-090a-0b0c0d0e0f10 1.2", secureboot.SVN{Application: osmith.MustParseGUID("01020304-0506-0708-090a-0b0c0d0e0f10"), Major: 1, Minor: 2}.String())

	// A machine with the newer numbers lacks nothing of the older update but the certificate.
	newer, older := mustParse(t, a.Payload), mustParse(t, b.Payload)
	missing := secureboot.Missing(newer, older)
	require.Len(t, missing, 1)
	require.Equal(t, secureboot.TypeX509, missing[0].Type)
	require.Nil(t, missing[0].SVN)
	missing = secureboot.Missing(older, newer)
	require.Len(t, missing, 3)
	for i, text := range []string{"bootmgfw.efi 9.0 2.0", "cdboot.efi 3.0 2.0", "wdsmgfw.efi 3.0 2.0"} {
		require.Equal(t, text, fmt.Sprintf("%s %d.%d", missing[i].SVN, missing[i].Have.Major, missing[i].Have.Minor))
	}
	missing = secureboot.Missing(nil, append(older, newer...))
	require.Len(t, missing, 4, "the highest of each, and the certificate")
	require.Equal(t, "bootmgfw.efi 9.0", missing[1].SVN.String())
	require.Nil(t, missing[1].Have)

	require.Len(t, secureboot.Missing(nil, append(mustParse(t, a.Payload), newer...)), 3, "each once")

	// They are no digests of option ROMs.
	h := hierarchy(t)
	_, err = h.Enroll(secureboot.EnrollOptions{NothingMustBoot: true, Time: when, OptionROMs: secureboot.OptionROMs{KeepDB: a.Payload}})
	require.ErrorIs(t, err, secureboot.ErrOptionROMs)
}

func TestSVNOrder(t *testing.T) {
	type V = secureboot.SVN
	require.True(t, V{Major: 1, Minor: 9}.Less(V{Major: 2}))
	require.True(t, V{Major: 1, Minor: 1}.Less(V{Major: 1, Minor: 2}))
	require.False(t, V{Major: 2}.Less(V{Major: 1, Minor: 9}))
	require.False(t, V{Major: 1}.Less(V{Major: 1}))
}

func TestMissing(t *testing.T) {
	entry := func(owner osmith.GUID, n byte) secureboot.Signature {
		return secureboot.Signature{Owner: owner, Data: bytes.Repeat([]byte{n}, 32)}
	}
	list := func(typ osmith.GUID, s ...secureboot.Signature) secureboot.SignatureList {
		return secureboot.SignatureList{Type: typ, Signatures: s}
	}
	other := osmith.MustParseGUID("22222222-2222-3333-4444-555555555555")
	have := []secureboot.SignatureList{list(secureboot.TypeSHA256, entry(owner, 1), entry(other, 2)), list(secureboot.TypeSM3, entry(owner, 3))}
	want := []secureboot.SignatureList{list(secureboot.TypeSHA256, entry(other, 1), entry(owner, 3), entry(owner, 2)), list(secureboot.TypeSHA256, entry(other, 3), entry(owner, 4))}
	missing := secureboot.Missing(have, want)
	require.Equal(t, []secureboot.MissingEntry{{Type: secureboot.TypeSHA256, Signature: entry(owner, 3)}, {Type: secureboot.TypeSHA256, Signature: entry(owner, 4)}}, missing)
	require.Empty(t, secureboot.Missing(want, want))
	require.Empty(t, secureboot.Missing(have, nil))
	// An entry that looks like a version in a form that is not known is compared as it is.
	svn := secureboot.Signature{Owner: secureboot.SVNOwner, Data: append([]byte{2}, make([]byte, 31)...)}
	require.Len(t, secureboot.Missing(have, []secureboot.SignatureList{list(secureboot.TypeSHA256, svn)}), 1)
	require.Empty(t, secureboot.Missing([]secureboot.SignatureList{list(secureboot.TypeSHA256, svn)}, []secureboot.SignatureList{list(secureboot.TypeSHA256, svn)}))
}

func TestSameContent(t *testing.T) {
	a := secureboot.SHA256List(owner, [32]byte{1}, [32]byte{2})
	b := []secureboot.SignatureList{secureboot.SHA256List(owner, [32]byte{2}), secureboot.SHA256List(owner, [32]byte{1})}
	for _, c := range []struct {
		a, b []byte
		same bool
	}{
		{lists(t, a), lists(t, b...), true},
		{nil, nil, true},
		{lists(t, a), lists(t, b[0]), false},
		{lists(t, b[0]), lists(t, a), false},
		{lists(t, b[0]), lists(t, secureboot.SHA256List(osmith.GUID{}, [32]byte{2})), false},
	} {
		same, err := secureboot.SameContent(c.a, c.b)
		require.NoError(t, err)
		require.Equal(t, c.same, same)
	}
	_, err := secureboot.SameContent([]byte{1}, nil)
	require.Error(t, err)
	_, err = secureboot.SameContent(nil, []byte{1})
	require.Error(t, err)
}

// The variable of an update is that of its signature.
func TestSignedFor(t *testing.T) {
	h := hierarchy(t)
	payload := lists(t, secureboot.CertificateList(owner, h.DB.Cert))
	for _, name := range []string{"PK", "KEK", "db", "dbx", "dbt", "dbr"} {
		for _, add := range []bool{false, true} {
			a, err := secureboot.ParseAuth(signedAs(t, h.KEK, crypto.SHA256, true, stamp(2026, 1, 1), name, payload, add))
			require.NoError(t, err)
			variable, appendWrite, ok := a.SignedFor()
			require.True(t, ok)
			require.Equal(t, name, variable)
			require.Equal(t, add, appendWrite)
		}
	}
	b := signedAs(t, h.KEK, crypto.SHA256, true, stamp(2026, 1, 1), "db", payload, true)
	b[len(b)-1] ^= 1
	a, err := secureboot.ParseAuth(b)
	require.NoError(t, err)
	_, _, ok := a.SignedFor()
	require.False(t, ok)
}

// The certificates of 2023, out of the updates that bring them: one does not stand for another.
func TestCertificatesOf2023(t *testing.T) {
	h := hierarchy(t)
	certs := map[string]*x509.Certificate{}
	for _, file := range []string{microsoft + "DBUpdate2024.bin", microsoft + "DBUpdate3P2023.bin", microsoft + "DBUpdateOROM2023.bin", "testdata/certificates/KEKUpdate_ECS_PK2.bin"} {
		a, err := secureboot.ParseAuth(read(t, file))
		require.NoError(t, err)
		all, err := secureboot.Certificates(mustParse(t, a.Payload))
		require.NoError(t, err)
		require.Len(t, all, 1)
		known, ok := secureboot.Identify(all[0])
		require.True(t, ok, file)
		require.Equal(t, all[0].Subject.CommonName, known.Name)
		require.Equal(t, known.Expires.Format("2006-01-02"), all[0].NotAfter.UTC().Format("2006-01-02"))
		certs[known.Name] = all[0]
	}
	for name, c := range map[string]struct {
		variable   string
		optionROMs bool
	}{
		"Windows UEFI CA 2023":                 {"db", false},
		"Microsoft UEFI CA 2023":               {"db", false},
		"Microsoft Option ROM UEFI CA 2023":    {"db", true},
		"Microsoft Corporation KEK 2K CA 2023": {"KEK", false},
	} {
		cert := certs[name]
		require.NotNil(t, cert, name)
		known, _ := secureboot.Identify(cert)
		require.Equal(t, c.variable, known.Variable)
		require.Equal(t, c.optionROMs, known.OptionROMs)
		alone := lists(t, secureboot.CertificateList(secureboot.MicrosoftOwner, cert))
		for other, o := range certs {
			require.Equal(t, other == name, holds(t, alone, o))
			missing := secureboot.Missing(mustParse(t, alone), []secureboot.SignatureList{secureboot.CertificateList(secureboot.MicrosoftOwner, o)})
			require.Equal(t, other == name, len(missing) == 0, "%s and %s", name, other)
		}
		// Alone in db, or kept in it, it is a decision about option ROMs or none.
		for _, roms := range []secureboot.OptionROMs{{KeepDB: alone}, {Keep: []*x509.Certificate{cert}}} {
			_, err := h.Enroll(secureboot.EnrollOptions{NothingMustBoot: true, Time: when, OptionROMs: roms})
			switch {
			case c.variable == "KEK" && roms.Keep != nil:
				require.ErrorContains(t, err, "is a certificate for KEK, not for db")
			case c.optionROMs:
				require.NoError(t, err, name)
			default:
				require.ErrorIs(t, err, secureboot.ErrOptionROMs, name)
			}
		}
	}
	// A rotation takes the db of the machine as a decision, or does not, in the same way.
	for name, decided := range map[string]bool{"Microsoft UEFI CA 2023": false, "Windows UEFI CA 2023": false, "Microsoft Option ROM UEFI CA 2023": true} {
		v := enrolled(t, h).Variables
		v.DB = append(v.DB, lists(t, secureboot.CertificateList(secureboot.MicrosoftOwner, certs[name]))...)
		_, err := secureboot.PlanRotation(secureboot.RotationOptions{Machine: v, Old: h, New: &secureboot.Hierarchy{DB: foreignHierarchy(t).DB}, Time: when, NothingMustBoot: true})
		require.Equal(t, !decided, errors.Is(err, secureboot.ErrOptionROMs), "%s: %v", name, err)
	}
	// An image by one is not allowed by the other: the signers of Microsoft's two authorities have
	// issuers of different names.
	require.NotEqual(t, hex.EncodeToString(certs["Microsoft UEFI CA 2023"].RawSubject), hex.EncodeToString(certs["Microsoft Option ROM UEFI CA 2023"].RawSubject))
	require.False(t, certs["Microsoft UEFI CA 2023"].PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(certs["Microsoft Option ROM UEFI CA 2023"].PublicKey))
}
