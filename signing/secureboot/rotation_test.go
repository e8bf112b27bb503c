package secureboot_test

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/cms"
	"github.com/osmith-dev/osmith/internal/signedpe"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// signed is an image with signatures by some keys.
func signed(name string, by ...secureboot.KeyPair) secureboot.Image {
	sum := sha256.Sum256([]byte(name))
	im := secureboot.Image{Name: name, Digests: map[crypto.Hash][]byte{crypto.SHA256: sum[:]}}
	for _, p := range by {
		im.Certificates = append(im.Certificates, entry(message(crypto.SHA256, sum[:], p)))
	}
	return im
}

// message is an Authenticode signature over the digest of an image.
func message(h crypto.Hash, sum []byte, p secureboot.KeyPair, chain ...secureboot.KeyPair) []byte {
	content, err := signedpe.EncodeIndirectData(h, sum)
	if err != nil {
		panic(err)
	}
	t := cms.Template{Hash: h, ContentType: signedpe.OIDIndirectData, Content: content, Attributes: true, Certificate: p.Cert}
	for _, k := range chain {
		t.Chain = append(t.Chain, k.Cert)
	}
	r, err := t.Prepare()
	if err != nil {
		panic(err)
	}
	signature, err := cms.SignDigest(p.Key, p.Cert, r.Hash, r.Digest)
	if err != nil {
		panic(err)
	}
	m, err := t.Join(signature)
	if err != nil {
		panic(err)
	}
	return m
}

func entry(message []byte) secureboot.CertificateEntry {
	return secureboot.CertificateEntry{Raw: signedpe.AppendEntry(nil, message)}
}

// A machine that is rotated, with a store that survives reboots and a plan file that may get lost.
type machine struct {
	t         testing.TB
	variables osmith.FirmwareVariables
	boots     int
	images    []secureboot.Image
	plan      []byte
}

func (m *machine) state() secureboot.State {
	return secureboot.State{Variables: m.variables, BootID: fmt.Sprint("boot", m.boots), Images: m.images}
}

// boots says whether everything on the machine starts.
func (m *machine) check() {
	e := secureboot.EvaluateSet(m.variables, m.images, secureboot.EvaluateSetOptions{})
	require.True(m.t, e.Allowed(), "%v", e)
}

// next loads the plan, asks it, and stores it again unless the power fails first.
func (m *machine) next(lose bool) secureboot.Action {
	var r secureboot.Rotation
	require.NoError(m.t, json.Unmarshal(m.plan, &r))
	a, err := r.Next(m.state())
	require.NoError(m.t, err)
	if !lose {
		m.plan, err = json.Marshal(r)
		require.NoError(m.t, err)
	}
	return a
}

// Whatever is rotated, and whenever the power fails, everything boots after every write, and the
// plan ends with the new keys.
func TestRotationNeverLocksOut(t *testing.T) {
	seed := uint64(5)
	rounds := 60
	if os.Getenv("OSMITH_LONG") != "" {
		seed, rounds = uint64(time.Now().UnixNano()), 600
	} else if testing.Short() {
		rounds = 20
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	vendor := issue(t, "vendor", true, foreignHierarchy(t).PCR, foreignHierarchy(t).PCR)
	old := *hierarchy(t)
	for round := range rounds {
		fresh := secureboot.Hierarchy{Owner: owner}
		which := 1 + rng.IntN(7)
		if which&1 != 0 {
			fresh.PK = foreignHierarchy(t).PK
		}
		if which&2 != 0 {
			fresh.KEK = foreignHierarchy(t).KEK
		}
		if which&4 != 0 {
			fresh.DB = foreignHierarchy(t).DB
		}
		m := &machine{t: t, images: []secureboot.Image{signed("loader", old.DB), signed("UKI", old.DB), signed("card", vendor)}}
		if rng.IntN(2) == 0 {
			m.images[0] = signed("loader", old.DB, foreignHierarchy(t).DB)
		}
		var err error
		m.variables = enrolled(t, &old).Variables
		m.variables.DB = append(m.variables.DB, lists(t, secureboot.CertificateList(owner, vendor.Cert))...)
		if rng.IntN(2) == 0 {
			m.variables.KEK = append(lists(t, secureboot.CertificateList(owner, vendor.Cert)), m.variables.KEK...)
			m.variables.DBX = lists(t, secureboot.SHA256List(owner, [32]byte{1}))
			m.variables.Times = map[string]time.Time{"db": when.Add(-time.Hour), "KEK": when.Add(-time.Hour)}
		}
		o := secureboot.RotationOptions{
			Machine: m.variables, Old: &old, New: &fresh, Time: when, MustBoot: m.images,
			RevokeOld: which&4 != 0 && rng.IntN(2) == 0,
		}
		plan, err := secureboot.PlanRotation(o)
		require.NoError(t, err)
		m.plan, err = json.Marshal(plan)
		require.NoError(t, err)

		for turn := 0; ; turn++ {
			require.Less(t, turn, 100)
			m.check()
			if rng.IntN(4) == 0 {
				m.boots++ // another program reboots
			}
			if rng.IntN(6) == 0 { // plan anew from here
				o.Machine, o.MustBoot, o.Time = m.variables, m.images, o.Time.Add(time.Minute)
				if plan, err = secureboot.PlanRotation(o); err == nil {
					m.plan, err = json.Marshal(plan)
				}
				require.NoError(t, err)
			}
			a := m.next(rng.IntN(4) == 0)
			if a.Kind == secureboot.ActionDone {
				break
			}
			require.NotEmpty(t, a.Text)
			switch a.Kind {
			case secureboot.ActionReboot:
				m.boots++
			case secureboot.ActionInstall:
				for i, im := range m.images {
					for _, name := range a.Images {
						if im.Name == name {
							m.images[i] = signed(im.Name, fresh.DB)
							m.check() // one after the other
						}
					}
				}
			case secureboot.ActionWrite:
				m.variables, err = secureboot.Apply(m.variables, a.Step.Pending)
				require.NoError(t, err)
				if rng.IntN(2) == 0 {
					m.boots++
				}
			}
		}
		for _, k := range []struct {
			bit        int
			data       []byte
			old, fresh secureboot.KeyPair
		}{{1, m.variables.PK, old.PK, fresh.PK}, {2, m.variables.KEK, old.KEK, fresh.KEK}, {4, m.variables.DB, old.DB, fresh.DB}} {
			require.Equal(t, which&k.bit == 0, holds(t, k.data, k.old.Cert), "round %d", round)
			if which&k.bit != 0 {
				require.True(t, holds(t, k.data, k.fresh.Cert))
			}
		}
		require.True(t, holds(t, m.variables.DB, vendor.Cert), "what others put into db stays")
		gone := secureboot.Evaluate(m.variables, signed("old", old.DB), secureboot.EvaluateOptions{})
		require.Equal(t, which&4 == 0, gone.Allowed)
		require.Equal(t, o.RevokeOld, gone.Revoked)
	}
}

func holds(t testing.TB, data []byte, c *x509.Certificate) bool {
	l, err := secureboot.ParseSignatureLists(data)
	require.NoError(t, err)
	certs, err := secureboot.Certificates(l)
	require.NoError(t, err)
	for _, x := range certs {
		if x.Equal(c) {
			return true
		}
	}
	return false
}

// rotation is a plan for all three keys.
func rotation(t testing.TB) (*secureboot.Rotation, secureboot.RotationOptions) {
	t.Helper()
	old, fresh := hierarchy(t), foreignHierarchy(t)
	v := enrolled(t, old).Variables
	o := secureboot.RotationOptions{
		Machine: v, Old: old, New: fresh, Time: when, MustBoot: []secureboot.Image{signed("UKI", old.DB)}, RevokeOld: true,
		OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true},
	}
	r, err := secureboot.PlanRotation(o)
	require.NoError(t, err)
	return r, o
}

func TestRotationPlan(t *testing.T) {
	r, o := rotation(t)
	title := func(p secureboot.KeyPair) string {
		sum := sha256.Sum256(p.Cert.Raw)
		return fmt.Sprintf("%q (SHA-256 %x...)", p.Cert.Subject, sum[:4])
	}
	want := "[ ] 1. add " + title(o.New.DB) + " to db\n       reboot\n" +
		"[ ] 2. install images signed by " + title(o.New.DB) + "\n" +
		"[ ] 3. add " + title(o.New.KEK) + " to KEK\n       reboot\n" +
		"[ ] 4. replace PK by " + title(o.New.PK) + "\n       reboot\n" +
		"[ ] 5. remove " + title(o.Old.KEK) + " from KEK\n       reboot\n" +
		"[ ] 6. remove " + title(o.Old.DB) + " from db\n       reboot\n" +
		"[ ] 7. revoke " + title(o.Old.DB) + " in dbx\n       reboot\n"
	require.Equal(t, want, r.String())
	r.Reached = 1
	require.Contains(t, r.String(), "[x] 1. add")
	require.Contains(t, r.String(), "[ ] 2. install")
	require.Equal(t, "nothing to do\n", new(secureboot.Rotation).String())
}

func TestPlanRotationRefuses(t *testing.T) {
	_, good := rotation(t)
	third := &secureboot.Hierarchy{KEK: hierarchy(t).PCR, DB: hierarchy(t).Verity}
	for name, c := range map[string]struct {
		change func(*secureboot.RotationOptions)
		want   string
	}{
		"no hierarchy": {func(o *secureboot.RotationOptions) { o.New = nil }, "both needed"},
		"Setup Mode":   {func(o *secureboot.RotationOptions) { o.Machine.SetupMode = []byte{1} }, "Setup Mode"},
		"not ours": {func(o *secureboot.RotationOptions) {
			o.Machine.KEK = lists(t, secureboot.CertificateList(owner, third.KEK.Cert))
		}, "KEK of the machine has neither"},
		"broken db":   {func(o *secureboot.RotationOptions) { o.Machine.DB = []byte{1} }, "db of the machine"},
		"option ROMs": {func(o *secureboot.RotationOptions) { o.OptionROMs = secureboot.OptionROMs{} }, "no decision on option ROMs"},
		"no room":     {func(o *secureboot.RotationOptions) { o.RoomForVariables = 4000 }, "the variables need 5340 bytes of the machine's variable store, which has room for 4000: keep fewer certificates and digests"},
		"revoke what stays": {func(o *secureboot.RotationOptions) {
			o.New = &secureboot.Hierarchy{PK: o.New.PK}
		}, "which stays in db: unset RevokeOld, or give a new certificate"},
		"does not boot today": {func(o *secureboot.RotationOptions) { o.MustBoot = append(o.MustBoot, signed("odd", third.DB)) }, "today: the machine would not boot odd"},
		"time of the past": {func(o *secureboot.RotationOptions) {
			o.Machine.Times = map[string]time.Time{"PK": when.AddDate(1, 0, 0)}
		}, "not later than"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			c.change(&o)
			r, err := secureboot.PlanRotation(o)
			require.ErrorContains(t, err, c.want)
			require.Nil(t, r)
		})
	}
	o := good
	o.OptionROMs = secureboot.OptionROMs{}
	_, err := secureboot.PlanRotation(o)
	require.ErrorIs(t, err, secureboot.ErrOptionROMs)
	o = good
	o.MustBoot = nil
	_, err = secureboot.PlanRotation(o)
	require.ErrorIs(t, err, secureboot.ErrNothingMustBoot)
	o.NothingMustBoot = true
	_, err = secureboot.PlanRotation(o)
	require.NoError(t, err)
	// A machine that has nothing left to do.
	o = good
	o.New, o.RevokeOld = o.Old, false
	r, err := secureboot.PlanRotation(o)
	require.NoError(t, err)
	require.Empty(t, r.Steps)
	a, err := r.Next(secureboot.State{Variables: o.Machine, BootID: "x"})
	require.NoError(t, err)
	require.Equal(t, secureboot.ActionDone, a.Kind)
}

// A plan whose keys are elsewhere: each step is signed when it is due, and the plan is the one that
// they would have made here.
func TestRotationSignedElsewhere(t *testing.T) {
	signedHere, o := rotation(t)
	keys := map[string]secureboot.KeyPair{}
	public := func(h *secureboot.Hierarchy) *secureboot.Hierarchy {
		for _, p := range []secureboot.KeyPair{h.PK, h.KEK} {
			keys[string(p.Cert.Raw)] = p
		}
		return &secureboot.Hierarchy{Owner: h.Owner, PK: secureboot.KeyPair{Cert: h.PK.Cert}, KEK: secureboot.KeyPair{Cert: h.KEK.Cert}, DB: secureboot.KeyPair{Cert: h.DB.Cert}}
	}
	uki := signed("UKI", o.New.DB)
	o.Old, o.New = public(o.Old), public(o.New)
	r, err := secureboot.PlanRotation(o)
	require.NoError(t, err)
	require.Equal(t, signedHere.String(), r.String())
	m := &machine{t: t, variables: o.Machine, images: o.MustBoot}
	var kinds string
	for {
		b, err := json.Marshal(r)
		require.NoError(t, err)
		again := new(secureboot.Rotation)
		require.NoError(t, json.Unmarshal(b, again))
		require.Equal(t, r, again)
		r = again
		a, err := r.Next(m.state())
		require.NoError(t, err)
		if a.Kind == secureboot.ActionDone {
			break
		}
		kinds += a.Kind[:1]
		switch a.Kind {
		case secureboot.ActionSign:
			digest, err := a.Step.Digest()
			require.NoError(t, err)
			require.ErrorContains(t, a.Step.Join(make([]byte, 256)), "secureboot: signature to join")
			signature, err := keys[string(a.Step.Unsigned.Signer.Raw)].Key.Sign(nil, digest, crypto.SHA256)
			require.NoError(t, err)
			require.NoError(t, a.Step.Join(signature))
			require.ErrorContains(t, a.Step.Join(signature), "nothing to sign")
			_, err = a.Step.Digest()
			require.ErrorContains(t, err, "nothing to sign")
		case secureboot.ActionInstall:
			m.images = []secureboot.Image{uki}
		case secureboot.ActionReboot:
			m.boots++
		case secureboot.ActionWrite:
			m.variables, err = secureboot.Apply(m.variables, a.Step.Pending)
			require.NoError(t, err)
		}
		m.check()
	}
	require.Equal(t, "swriswrswrswrswrswr", kinds)
	for i := range r.Steps {
		require.Equal(t, signedHere.Steps[i], r.Steps[i])
	}
}

func TestNextRefuses(t *testing.T) {
	r, o := rotation(t)
	_, err := r.Next(secureboot.State{Variables: o.Machine})
	require.ErrorContains(t, err, "BootID")
	v := o.Machine
	v.SetupMode = []byte{1}
	_, err = r.Next(secureboot.State{Variables: v, BootID: "1"})
	require.ErrorContains(t, err, "Setup Mode")
	v = o.Machine
	v.DB = lists(t, secureboot.CertificateList(owner, hierarchy(t).PCR.Cert))
	_, err = r.Next(secureboot.State{Variables: v, BootID: "1"})
	off, ok := errors.AsType[*secureboot.OffPlanError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, []string{"db"}, off.Variables)
	_, err = r.Next(secureboot.State{Variables: o.Machine, BootID: "1", Images: []secureboot.Image{signed("UKI", foreignHierarchy(t).DB)}})
	lock, ok := errors.AsType[*secureboot.LockoutError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "today", lock.When)

	// A plan whose update was exchanged is refused by the machine's own keys.
	foreign, err := secureboot.Update{Variable: "db", Time: when, Append: true}.Sign(foreignHierarchy(t).KEK.Key, foreignHierarchy(t).KEK.Cert)
	require.NoError(t, err)
	r.Steps[0].Auth = foreign
	_, err = r.Next(secureboot.State{Variables: o.Machine, BootID: "1"})
	require.ErrorIs(t, err, secureboot.ErrUntrusted)
}

func TestRotationJSON(t *testing.T) {
	r, _ := rotation(t)
	b, err := json.Marshal(r)
	require.NoError(t, err)
	var again secureboot.Rotation
	require.NoError(t, json.Unmarshal(b, &again))
	require.Equal(t, *r, again)
	var o map[string]any
	require.NoError(t, json.Unmarshal(b, &o))
	require.Equal(t, "osmith.rotation/1", o["schema"])
	for want, change := range map[string]func(map[string]any){
		"schema":       func(o map[string]any) { o["schema"] = "osmith.rotation/2" },
		"unknown key":  func(o map[string]any) { o["more"] = 1 },
		"reached: 99":  func(o map[string]any) { o["reached"] = 99 },
		"reached: -1":  func(o map[string]any) { o["reached"] = -1 },
		"fingerprint":  func(o map[string]any) { o["start"] = map[string]any{"PK": "x"} },
		"kind":         func(o map[string]any) { o["steps"] = []any{map[string]any{"kind": "jump"}} },
		"header":       func(o map[string]any) { o["steps"] = []any{with(o["steps"].([]any)[0], "auth", "AAAA")} },
		"either auth":  func(o map[string]any) { o["steps"] = []any{with(o["steps"].([]any)[0], "payload", "AAAA")} },
		`variable "x"`: func(o map[string]any) { o["steps"] = []any{with(o["steps"].([]any)[0], "variable", "x")} },
	} {
		t.Run(want, func(t *testing.T) {
			c := maps.Clone(o)
			change(c)
			b, err := json.Marshal(c)
			require.NoError(t, err)
			require.ErrorContains(t, json.Unmarshal(b, new(secureboot.Rotation)), want)
		})
	}
}

func with(object any, key string, value any) map[string]any {
	o := maps.Clone(object.(map[string]any))
	o[key] = value
	return o
}
