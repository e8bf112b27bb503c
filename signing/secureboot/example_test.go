package secureboot_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"os"
	"testing/fstest"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/authenticode"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// The keys of a product are made, a machine is enrolled with them, and the firmware starts an image
// until it is withdrawn.
func Example() {
	// Once per product: three keys.
	year := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	keys, err := secureboot.Generate(nil, secureboot.GenerateOptions{CommonName: "Acme OS", NotBefore: year, NotAfter: year.AddDate(20, 0, 0)})
	if err != nil {
		log.Fatal(err)
	}

	// The machine's variables after enrolment, and what it would say to an image signed by the db
	// key.
	enrollment, err := keys.Enroll(secureboot.EnrollOptions{NothingMustBoot: true, Time: year, OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}})
	if err != nil {
		log.Fatal(err)
	}
	machine := enrollment.Variables
	program, err := osmith.OpenFile("../authenticode/testdata/plain.efi")
	if err != nil {
		log.Fatal(err)
	}
	defer program.Close()
	var signed bytes.Buffer
	if err := authenticode.Sign(&signed, program, keys.DB.Key, keys.DB.Cert, authenticode.SignOptions{}); err != nil {
		log.Fatal(err)
	}
	image, err := secureboot.ReadImage(bytes.NewReader(signed.Bytes()))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(secureboot.Evaluate(machine, image, secureboot.EvaluateOptions{}).Reason)

	// Withdrawing the image.
	machine.DBX, err = secureboot.AppendSignatureLists(machine.DBX, secureboot.SHA256List(keys.Owner, [32]byte(image.Digests[crypto.SHA256])))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(secureboot.Evaluate(machine, image, secureboot.EvaluateOptions{}).Allowed)
	// Output:
	// db has the certificate "CN=Acme OS Signature Database Key"
	// false
}

func ExampleUpdate_Sign() {
	year := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	keys, err := secureboot.Generate(nil, secureboot.GenerateOptions{CommonName: "Acme OS", NotBefore: year, NotAfter: year.AddDate(20, 0, 0)})
	if err != nil {
		log.Fatal(err)
	}
	revoked := sha256.Sum256([]byte("stands for the Authenticode digest of an old image"))
	payload, err := secureboot.AppendSignatureLists(nil, secureboot.SHA256List(keys.Owner, revoked))
	if err != nil {
		log.Fatal(err)
	}
	auth, err := secureboot.Update{Variable: "dbx", Payload: payload, Time: year, Append: true}.Sign(keys.KEK.Key, keys.KEK.Cert)
	if err != nil {
		log.Fatal(err)
	}
	update, err := secureboot.VerifyAuth(secureboot.Pending{Variable: "dbx", Auth: auth, Append: true}, []*x509.Certificate{keys.KEK.Cert})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(update.Time.Format(time.DateOnly), update.Signer.Subject, len(update.Payload))
	// Output: 2026-01-01 CN=Acme OS Key Exchange Key 76
}

func ExampleParseSignatureLists() {
	esl, err := secureboot.AppendSignatureLists(nil, secureboot.SHA256List(osmith.GUID{}, [32]byte{1}, [32]byte{2}))
	if err != nil {
		log.Fatal(err)
	}
	lists, err := secureboot.ParseSignatureLists(esl)
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range lists {
		for _, s := range l.Signatures {
			fmt.Println(l.Type == secureboot.TypeSHA256, s.Owner, len(s.Data))
		}
	}
	// Output:
	// true 00000000-0000-0000-0000-000000000000 32
	// true 00000000-0000-0000-0000-000000000000 32
}

// vendorKeys stands for keys that were made once and have been kept since.
func vendorKeys(name string, year time.Time) *secureboot.Hierarchy {
	keys, err := secureboot.Generate(nil, secureboot.GenerateOptions{CommonName: name, NotBefore: year, NotAfter: year.AddDate(20, 0, 0)})
	if err != nil {
		log.Fatal(err)
	}
	return keys
}

func ExampleHierarchy_Enroll() {
	year := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	keys := vendorKeys("Acme OS", year)
	_, err := keys.Enroll(secureboot.EnrollOptions{NothingMustBoot: true, Time: year})
	fmt.Println(errors.Is(err, secureboot.ErrOptionROMs))

	card := sha256.Sum256([]byte("stands for the digest of a network card's option ROM, from PCR 2 of an event log"))
	enrollment, err := keys.Enroll(secureboot.EnrollOptions{NothingMustBoot: true, Time: year, OptionROMs: secureboot.OptionROMs{AllowDigests: [][32]byte{card}}})
	if err != nil {
		log.Fatal(err)
	}
	files, err := enrollment.LoaderKeys("auto")
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range files {
		fmt.Println(f.Path)
	}
	// Output:
	// true
	// loader/keys/auto/PK.auth
	// loader/keys/auto/KEK.auth
	// loader/keys/auto/db.auth
}

func ExampleApply() {
	year := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	keys := vendorKeys("Acme OS", year)
	enrollment, err := keys.Enroll(secureboot.EnrollOptions{NothingMustBoot: true, Time: year, OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}})
	if err != nil {
		log.Fatal(err)
	}
	machine := enrollment.Variables
	payload, err := secureboot.AppendSignatureLists(nil, secureboot.SHA256List(keys.Owner, [32]byte{1}))
	if err != nil {
		log.Fatal(err)
	}
	dbx, err := keys.SignUpdate(secureboot.Update{Variable: "dbx", Payload: payload, Time: year})
	if err != nil {
		log.Fatal(err)
	}
	after, err := secureboot.Apply(machine, secureboot.Pending{Variable: "dbx", Auth: dbx})
	fmt.Println(len(after.DBX), err)
	_, err = secureboot.Apply(after, secureboot.Pending{Variable: "dbx", Auth: dbx})
	fmt.Println(err)
	// Output:
	// 76 <nil>
	// secureboot: firmware would refuse the update of dbx: its time 2026-01-01T00:00:00Z is not later than the variable's, 2026-01-01T00:00:00Z: sign the update again with a later time
}

func ExampleReadVariables() {
	// os.DirFS("/sys/firmware/efi/efivars") on a machine; this is a copy of it.
	efivars := fstest.MapFS{
		"SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": {Data: []byte{6, 0, 0, 0, 0}},
		"SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c":  {Data: []byte{6, 0, 0, 0, 1}},
	}
	v, err := secureboot.ReadVariables(efivars)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(v.SetupMode, v.SecureBoot, v.PK == nil)
	// Output: [1] [0] true
}

func ExampleEvaluateSet() {
	year := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	keys := vendorKeys("Acme OS", year)
	enrollment, err := keys.Enroll(secureboot.EnrollOptions{NothingMustBoot: true, Time: year, OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}})
	if err != nil {
		log.Fatal(err)
	}
	machine := enrollment.Variables
	program, err := osmith.OpenFile("testdata/uboot/a01.efi") // stands for a UKI
	if err != nil {
		log.Fatal(err)
	}
	defer program.Close()
	var signed bytes.Buffer
	if err := authenticode.Sign(&signed, program, keys.DB.Key, keys.DB.Cert, authenticode.SignOptions{}); err != nil {
		log.Fatal(err)
	}
	uki, err := secureboot.ReadImage(bytes.NewReader(signed.Bytes()))
	if err != nil {
		log.Fatal(err)
	}
	uki.Name = "acmeos_7.efi"
	fmt.Print(secureboot.EvaluateSet(machine, []secureboot.Image{uki}, secureboot.EvaluateSetOptions{At: year}))
	// Output:
	// acmeos_7.efi: allowed: db has the certificate "CN=Acme OS Signature Database Key"
	//   rule: certificate-in-db
}

// A signing time before the certificate was valid: edk2 does not look at it, U-Boot refuses the
// image.
func ExampleEvaluate_firmware() {
	image, err := osmith.OpenFile("testdata/uboot/a12.efi")
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	db, err := os.ReadFile("testdata/uboot/a-db.esl")
	if err != nil {
		log.Fatal(err)
	}
	machine := osmith.FirmwareVariables{SecureBoot: []byte{1}, DB: db}
	im, err := secureboot.ReadImage(image)
	if err != nil {
		log.Fatal(err)
	}
	verdict := secureboot.Evaluate(machine, im, secureboot.EvaluateOptions{})
	fmt.Println(verdict.Allowed, verdict.Differs, verdict.Undecided)
	verdict = secureboot.Evaluate(machine, im, secureboot.EvaluateOptions{Firmware: secureboot.FirmwareUBoot202610})
	fmt.Println(verdict.Allowed, verdict.Reason)
	// Output:
	// true [u-boot-2026.10 u-boot-2025.01 u-boot-legacy] []
	// false signature 0: the signing time 2026-01-01T00:00:00Z is outside of the validity of the signer's certificate "CN=bootlab db", 2026-11-30T05:34:29Z to 2036-11-27T05:34:29Z: U-Boot refuses that
}

func ExamplePlanRotation() {
	year := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	old, fresh := vendorKeys("Acme OS", year), vendorKeys("Acme OS 2", year)
	enrollment, err := old.Enroll(secureboot.EnrollOptions{NothingMustBoot: true, Time: year, OptionROMs: secureboot.OptionROMs{TrustNoOptionROMsAtTheRiskOfABlackScreen: true}})
	if err != nil {
		log.Fatal(err)
	}
	machine := enrollment.Variables
	// Only the key of PK is exchanged, which signs no images. MustBoot has those that a key of db
	// signed.
	plan, err := secureboot.PlanRotation(secureboot.RotationOptions{Machine: machine, Old: old, New: &secureboot.Hierarchy{PK: fresh.PK},
		Time: year.AddDate(1, 0, 0), NothingMustBoot: true})
	if err != nil {
		log.Fatal(err)
	}
	for boot := range 3 {
		action, err := plan.Next(secureboot.State{Variables: machine, BootID: fmt.Sprint(boot)})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(action.Kind)
		if action.Kind == secureboot.ActionWrite {
			if machine, err = secureboot.Apply(machine, action.Step.Pending); err != nil {
				log.Fatal(err)
			}
		}
	}
	// Output:
	// write
	// reboot
	// done
}

// A UKI on a machine that starts through shim: its key is in MokList, not in db.
func ExampleReadShim() {
	keys := vendorKeys("Acme OS", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	file, err := osmith.OpenFile("testdata/shim/shimx64.efi") // of a distribution
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	shim, err := secureboot.ReadShim(file)
	if err != nil {
		log.Fatal(err)
	}
	// /sys/firmware/efi/efivars
	machine, err := secureboot.ReadVariables(os.DirFS("testdata/shim/mok"))
	if err != nil {
		log.Fatal(err)
	}
	enrolled, err := secureboot.AppendSignatureLists(machine.MokListRT, secureboot.CertificateList(keys.Owner, keys.DB.Cert))
	if err != nil {
		log.Fatal(err)
	}
	machine.MokListRT = enrolled // mokutil --import and MokManager do that

	program, err := osmith.OpenFile("../authenticode/testdata/plain.efi") // a UKI
	if err != nil {
		log.Fatal(err)
	}
	defer program.Close()
	var signed bytes.Buffer
	if err := authenticode.Sign(&signed, program, keys.DB.Key, keys.DB.Cert, authenticode.SignOptions{}); err != nil {
		log.Fatal(err)
	}
	uki, err := secureboot.ReadImage(bytes.NewReader(signed.Bytes()))
	if err != nil {
		log.Fatal(err)
	}
	uki.SBAT = []byte("sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\nacme,1,Acme,acme,1,https://acme.example\n")
	fmt.Println(secureboot.Evaluate(machine, uki, secureboot.EvaluateOptions{NoShim: true}).Rule)
	verdict := secureboot.Evaluate(machine, uki, secureboot.EvaluateOptions{Shim: shim})
	fmt.Println(verdict.Reason)
	event, err := verdict.AuthorityEvent() // its digest goes into PCR 7
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(verdict.AuthorityVariable, bytes.Contains(event, keys.DB.Cert.Raw))

	level, err := shim.Level(machine)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", level)
	// Output:
	// no-certificate-in-db
	// MokList has the certificate "CN=Acme OS Signature Database Key"
	// MokListRT true
	// "sbat,1,2025021800\nshim,4\ngrub,5\n"
}

// The sections of a shim may come from elsewhere than its file.
func ExampleNewShim() {
	vendorCert, err := os.ReadFile("testdata/shim/shim.vendor_cert")
	if err != nil {
		log.Fatal(err)
	}
	sbatLevel, err := os.ReadFile("testdata/shim/shim.sbatlevel")
	if err != nil {
		log.Fatal(err)
	}
	shim, err := secureboot.NewShim(secureboot.Image{}, vendorCert, sbatLevel)
	if err != nil {
		log.Fatal(err)
	}
	// An owner who has enrolled nothing.
	lists, err := shim.MokListRT(osmith.FirmwareVariables{MokList: []byte{}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("PCR 14: %x\n", sha256.Sum256(lists))
	// Output: PCR 14: 342c88bb9fde2c45eeaa17321262b089181e7e841ef5a4a5e8ed240920026f97
}

// What shim will measure of its variables on a machine whose owner has enrolled nothing, for a
// prediction of PCRs 7 and 14. What nothing is known of is nil.
func ExampleShim_Measured() {
	vendorCert, err := os.ReadFile("testdata/shim/shim.vendor_cert")
	if err != nil {
		log.Fatal(err)
	}
	sbatLevel, err := os.ReadFile("testdata/shim/shim.sbatlevel")
	if err != nil {
		log.Fatal(err)
	}
	shim, err := secureboot.NewShim(secureboot.Image{}, vendorCert, sbatLevel)
	if err != nil {
		log.Fatal(err)
	}
	none := []byte{}
	v := shim.Measured(osmith.FirmwareVariables{SecureBoot: []byte{1}, SbatLevel: none, SbatPolicy: none, MokList: none, MokSBState: none})
	fmt.Printf("%q, %d bytes of MokList\n", v.SbatLevel, len(v.MokList))
	fmt.Println("known: MokSBState", v.MokSBState != nil, "MokListX", v.MokListX != nil)
	// Output:
	// "sbat,1,2025021800\nshim,4\ngrub,5\n", 974 bytes of MokList
	// known: MokSBState true MokListX false
}
