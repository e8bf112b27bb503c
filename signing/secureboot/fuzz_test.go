package secureboot_test

import (
	"bytes"
	"crypto"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/firmwaregrid"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// Whatever an .auth file holds, a machine of ours takes it only if our key signed it, and it never
// panics.
func FuzzApply(f *testing.F) {
	h := hierarchy(f)
	v := enrolled(f, h).Variables
	taken := map[string]bool{}
	for _, name := range []string{"PK", "KEK", "db", "dbx"} {
		b, err := h.SignUpdate(secureboot.Update{Variable: name, Payload: lists(f, secureboot.CertificateList(owner, h.DB.Cert)), Time: when})
		require.NoError(f, err)
		f.Add(name, b, false)
		a, err := secureboot.ParseAuth(b)
		require.NoError(f, err)
		taken[name+string(a.Payload)] = true
	}
	images := []secureboot.Image{signed("x", h.DB)}
	f.Fuzz(func(t *testing.T, name string, b []byte, add bool) {
		after, err := secureboot.Apply(v, secureboot.Pending{Variable: name, Auth: b, Append: add})
		if err == nil && !taken[name+string(secureboot.Content(after, name))] {
			t.Fatalf("taken: %s %x", name, b)
		}
		// What any firmware takes, each row takes, with the same result.
		anywhere, err := secureboot.ApplyWith(v, secureboot.Pending{Variable: name, Auth: b, Append: add}, secureboot.ApplyOptions{Firmware: secureboot.FirmwareAny})
		for _, row := range []secureboot.Firmware{newest, oldest} {
			a, e := secureboot.ApplyWith(v, secureboot.Pending{Variable: name, Auth: b, Append: add}, secureboot.ApplyOptions{Firmware: row})
			if err == nil && (e != nil || string(secureboot.Content(a.Variables, name)) != string(secureboot.Content(anywhere.Variables, name))) {
				t.Fatalf("%s does not take what any firmware takes: %v", row, e)
			}
		}
		setup := osmith.FirmwareVariables{SetupMode: []byte{1}}
		if after, err = secureboot.Apply(setup, secureboot.Pending{Variable: name, Auth: b, Append: add}); err == nil {
			_ = secureboot.EvaluateSet(after, images, secureboot.EvaluateSetOptions{}).String()
		}
	})
}

// FuzzEvaluate: whatever a certificate table holds, the verdict comes, and what any firmware may
// refuse is not allowed on firmware of which nothing is known.
func FuzzEvaluate(f *testing.F) {
	machines := []struct {
		v      osmith.FirmwareVariables
		images string
	}{
		{store(f, "testdata/firmware/VARS.fd.gz"), "testdata/firmware/*.efi"},
		// U-Boot refuses all with the other dbx
		{osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: esl(f, "a-db"), DBX: esl(f, "a-dbx")}, "testdata/uboot/*.efi"},
	}
	digests := map[crypto.Hash][]byte{}
	for _, m := range machines {
		images, err := filepath.Glob(m.images)
		require.NoError(f, err)
		require.NotEmpty(f, images)
		for _, name := range images {
			im := readImage(f, name)
			var table []byte
			for _, e := range im.Certificates {
				table = append(table, e.Raw...)
			}
			f.Add(table, byte(im.Layout))
			if strings.HasSuffix(name, "a00.efi") || len(digests) == 0 {
				digests = im.Digests
			}
		}
	}
	f.Fuzz(func(t *testing.T, table []byte, layout byte) {
		im := secureboot.Image{Digests: digests, Certificates: []secureboot.CertificateEntry{{Raw: table}}, Layout: secureboot.Layout(layout)}
		for _, m := range machines {
			anywhere := secureboot.Evaluate(m.v, im, secureboot.EvaluateOptions{Firmware: secureboot.FirmwareAny})
			for _, row := range secureboot.Firmwares() {
				r := secureboot.Evaluate(m.v, im, secureboot.EvaluateOptions{Firmware: row})
				require.NotEmpty(t, r.Reason)
				require.NotEmpty(t, r.Rule.Remedy())
				require.False(t, r.Allowed && (r.Unknown || r.Revoked))
				require.False(t, anywhere.Allowed && !r.Allowed)
				if strings.HasPrefix(string(row), "u-boot") {
					require.False(t, r.Allowed && im.Layout != secureboot.LayoutContiguous)
				}
			}
		}
	})
}

func FuzzRotation(f *testing.F) {
	r, o := rotation(f)
	b, err := r.MarshalJSON()
	require.NoError(f, err)
	f.Add(b)
	unsigned := *o.Old
	unsigned.KEK.Key, unsigned.PK.Key = nil, nil
	o.Old = &unsigned
	r, err = secureboot.PlanRotation(o)
	require.NoError(f, err)
	b, err = r.MarshalJSON()
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var r secureboot.Rotation
		if r.UnmarshalJSON(b) != nil {
			return
		}
		again, err := r.MarshalJSON()
		require.NoError(t, err)
		var r2 secureboot.Rotation
		require.NoError(t, r2.UnmarshalJSON(again))
		require.Equal(t, r, r2)
		_ = r.String()
		if a, err := r.Next(secureboot.State{Variables: o.Machine, BootID: "x", Images: o.MustBoot}); err == nil && a.Kind == "" {
			t.Fatal("no action and no error")
		}
	})
}

// FuzzShim: whatever the sections of a shim and of an image hold, a verdict comes; and where no
// list has anything in it, nothing is allowed.
func FuzzShim(f *testing.F) {
	w := newWorld(f)
	table := w.im.Certificates[0].Raw
	f.Add(shimFile(f, "shim.vendor_cert"), shimFile(f, "shim.sbatlevel"), []byte(sbatText), table, []byte{})
	f.Add(vendorSection(nil, nil), levelSection("sbat,1,2024010900\n", "sbat,1,2025010100\n"), []byte("sbat,1\n"), append(table, 1), []byte("sbat,1,2030010100\ngrub\n"))
	f.Add(vendorSection(lists(f, secureboot.SHA256List(owner, imageSum)), nil), []byte{}, []byte{}, []byte{}, w.v.DB)
	f.Fuzz(func(t *testing.T, vendor, level, section, table, content []byte) {
		s, err := secureboot.NewShim(w.s.Image, vendor, level)
		if (s == nil) != (err != nil) {
			t.Fatalf("%v and error %v", s, err)
		}
		if s == nil {
			return
		}
		im := secureboot.Image{Digests: w.im.Digests, SBAT: section, Certificates: []secureboot.CertificateEntry{{Raw: table}}}
		v := w.v
		v.SbatLevel, v.MokList, v.MokListX = content, content, content
		v.MokListRT, v.MokListXRT = content, content
		for _, by := range []bool{false, true} {
			r := secureboot.Evaluate(v, im, secureboot.EvaluateOptions{Shim: s, ByProgram: by})
			if r.Rule.Remedy() == "" || r.Reason == "" || r.Allowed == (r.Authority == nil) {
				t.Fatalf("%+v", r)
			}
		}
		_, _ = s.MokListRT(v)
		_, _ = s.MokListXRT(v)

		v = w.v
		v.DB = nil
		nothing := secureboot.Shim{Image: s.Image, VendorDBX: s.VendorDBX, LevelAutomatic: s.LevelAutomatic, LevelLatest: s.LevelLatest}
		if r := secureboot.Evaluate(v, im, secureboot.EvaluateOptions{Shim: &nothing, ByProgram: true}); r.Allowed {
			t.Fatalf("allowed by nothing: %+v", r)
		}
	})
}

// FuzzReadShim: whatever a file holds, ReadShim returns a shim or an error.
func FuzzReadShim(f *testing.F) {
	sections := map[string][]byte{}
	for _, name := range []string{"vendor_cert", "sbatlevel", "sbat"} {
		sections["."+name] = shimFile(f, "shim."+name)
	}
	f.Add(shimImage(sections, 2, shimNames))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := secureboot.ReadShim(bytes.NewReader(b))
		if (s == nil) != (err != nil) {
			t.Fatalf("%v and error %v", s, err)
		}
	})
}

// FuzzForged: no certificate table makes firmware start a program that none of the signers of the
// grid has signed, whatever their certificates and messages are like. The tables begin as those of
// the grid, about the program instead of their own.
func FuzzForged(f *testing.F) {
	g := firmwaregrid.Images()
	program := readImageBytes(f, firmwaregrid.Unsigned())
	v := osmith.FirmwareVariables{SecureBoot: []byte{1}, SetupMode: []byte{0}, DB: g.DB, DBX: g.DBX}
	seeds := 0
	for i, c := range g.Cases {
		seeds++
		if strings.HasPrefix(c.Name, "rsa-exponent-1") || testing.Short() && i%5 != 0 {
			continue // with exponent 1 signing needs no private key
		}
		im := readImageBytes(f, c.Image)
		var table []byte
		for _, e := range im.Certificates {
			table = append(table, e.Raw...)
		}
		for h, sum := range im.Digests {
			table = bytes.ReplaceAll(table, sum, program.Digests[h])
		}
		f.Add(table)
	}
	require.Greater(f, seeds, 400)
	f.Fuzz(func(t *testing.T, table []byte) {
		im := program
		im.Certificates = []secureboot.CertificateEntry{{Raw: table}}
		if len(table) == 0 {
			im.Certificates = nil
		}
		for _, row := range []secureboot.Firmware{secureboot.FirmwareEDK2Stable202608, secureboot.FirmwareEDK2Stable202211} {
			if r := secureboot.Evaluate(v, im, secureboot.EvaluateOptions{Firmware: row}); r.Allowed {
				t.Fatalf("%s: %s: %x", row, r.Reason, table)
			}
		}
	})
}

func readImageBytes(t testing.TB, b []byte) secureboot.Image {
	im, err := secureboot.ReadImage(bytes.NewReader(b))
	require.NoError(t, err)
	return im
}
