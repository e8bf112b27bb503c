package partition_test

import (
	"fmt"
	"log"

	"github.com/osmith-dev/osmith/partition"
)

// What policies demand of the signatures of root and /usr.
func ExampleParseImagePolicy() {
	for _, text := range []string{"root=signed+absent:usr=signed+absent", "usr=signed+verity", "usr=signed:=open"} {
		p, err := partition.ParseImagePolicy(text)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(p.Normal(), "root:", p.Signature("root"), "usr:", p.Signature("usr"))
	}
	// Output:
	// root=signed+absent:usr=signed+absent root: demanded usr: demanded
	// usr=verity+signed root: unused usr: not demanded
	// usr=signed:=open root: not demanded usr: demanded
}

// A policy for images that must be signed if they are there, and nothing else.
func ExamplePolicyDesignators() {
	p := &partition.ImagePolicy{Rules: []partition.PolicyRule{
		{Designator: "root", Flags: partition.PolicySigned | partition.PolicyAbsent},
		{Flags: partition.PolicyAbsent},
	}}
	for _, d := range partition.PolicyDesignators()[:3] {
		fmt.Println(d, p.Effective(d))
	}
	fmt.Println(p)
	// Output:
	// root signed+absent
	// usr absent
	// home absent
	// root=signed+absent:=absent
}
