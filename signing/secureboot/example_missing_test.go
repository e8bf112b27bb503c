package secureboot_test

import (
	"fmt"
	"log"
	"os"
	"time"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

// What a machine with Microsoft's KEK of 2023 alone does with files that two KEKs sign, and what it
// lacks afterwards.
func ExampleChooseUpdates() {
	kek, err := os.ReadFile("testdata/certificates/KEKUpdate_ECS_PK2.bin")
	if err != nil {
		log.Fatal(err)
	}
	auth, err := secureboot.ParseAuth(kek)
	if err != nil {
		log.Fatal(err)
	}
	year := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	keys, err := secureboot.Generate(nil, secureboot.GenerateOptions{CommonName: "Acme OS", NotBefore: year, NotAfter: year.AddDate(20, 0, 0)})
	if err != nil {
		log.Fatal(err)
	}
	pk, err := secureboot.AppendSignatureLists(nil, secureboot.CertificateList(keys.Owner, keys.PK.Cert))
	if err != nil {
		log.Fatal(err)
	}
	machine := osmith.FirmwareVariables{SecureBoot: []byte{1}, SetupMode: []byte{0}, PK: pk, KEK: auth.Payload}
	var updates []secureboot.PublishedUpdate
	for _, name := range []string{"signedbykek2023/dbx_x64.efiauth2", "DBXUpdateSVN.bin"} {
		b, err := os.ReadFile("testdata/microsoft/" + name)
		if err != nil {
			log.Fatal(err)
		}
		updates = append(updates, secureboot.PublishedUpdate{Name: name, Auth: b})
	}
	choice, err := secureboot.ChooseUpdates(machine, updates, secureboot.ApplyOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, u := range choice.Updates {
		fmt.Println(u.Name, u.Variable, len(u.New), u.Refused == nil)
	}
	for _, m := range choice.StillMissing["dbx"] {
		fmt.Println(m.SVN)
	}
	// Output:
	// signedbykek2023/dbx_x64.efiauth2 dbx 291 true
	// DBXUpdateSVN.bin dbx 3 false
	// bootmgfw.efi 9.0
	// cdboot.efi 3.0
	// wdsmgfw.efi 3.0
}

func ExampleMissing() {
	have := []secureboot.SignatureList{secureboot.SHA256List(secureboot.MicrosoftOwner, [32]byte{1})}
	want := []secureboot.SignatureList{secureboot.SHA256List(secureboot.MicrosoftOwner, [32]byte{1}, [32]byte{2})}
	for _, m := range secureboot.Missing(have, want) {
		fmt.Printf("%s %x...\n", secureboot.TypeName(m.Type), m.Data[:2])
	}
	// Output: SHA256 0200...
}

func ExampleApplyWith() {
	update, err := os.ReadFile("testdata/microsoft/signedbykek2023/dbx_x64.efiauth2")
	if err != nil {
		log.Fatal(err)
	}
	machine := osmith.FirmwareVariables{SetupMode: []byte{1}}
	after, err := secureboot.ApplyWith(machine, secureboot.Pending{Variable: "dbx", Auth: update, Append: true}, secureboot.ApplyOptions{Firmware: secureboot.FirmwareAny})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(after.Variables.DBX), after.Differs)
	// Output: 13996 []
}

func ExampleRule_Remedy() {
	r := secureboot.Evaluate(osmith.FirmwareVariables{SecureBoot: []byte{0}}, secureboot.Image{}, secureboot.EvaluateOptions{})
	fmt.Println(r.Rule)
	fmt.Println(r.Rule.Remedy())
	// Output:
	// secure-boot-off
	// switch Secure Boot on in the setup menu of the firmware: while it is off, any image runs
}

// What a published update asks of Windows' boot managers, and for which variable it was signed.
func ExampleSVNs() {
	update, err := os.ReadFile("testdata/microsoft/DBXUpdateSVN.bin")
	if err != nil {
		log.Fatal(err)
	}
	auth, err := secureboot.ParseAuth(update)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(auth.SignedFor())
	lists, err := secureboot.ParseSignatureLists(auth.Payload)
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range secureboot.SVNs(lists) {
		fmt.Println(v)
	}
	_, digest := secureboot.ParseSVN(secureboot.TypeSHA256, secureboot.SHA256List(secureboot.SVNOwner, [32]byte{}).Signatures[0])
	fmt.Println(digest)
	// Output:
	// dbx true true
	// bootmgfw.efi 9.0
	// cdboot.efi 3.0
	// wdsmgfw.efi 3.0
	// false
}

// The order of entries and lists does not matter; what a list has more does.
func ExampleSameContent() {
	list := func(digests ...[32]byte) []byte {
		b, err := secureboot.AppendSignatureLists(nil, secureboot.SHA256List(secureboot.MicrosoftOwner, digests...))
		if err != nil {
			log.Fatal(err)
		}
		return b
	}
	fmt.Println(secureboot.SameContent(list([32]byte{1}, [32]byte{2}), append(list([32]byte{2}), list([32]byte{1})...)))
	fmt.Println(secureboot.SameContent(list([32]byte{1}), list([32]byte{1}, [32]byte{2})))
	// Output:
	// true <nil>
	// false <nil>
}
