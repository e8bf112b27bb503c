package decompress_test

import (
	"bytes"
	"fmt"
	"log"
	"os"

	"github.com/osmith-dev/osmith/uki/decompress"
)

// A kernel that is compressed as a file tells its version before it goes into a UKI.
func Example() {
	kernel, err := os.ReadFile("testdata/crc64.xz") // Image.xz
	if err != nil {
		log.Fatal(err)
	}
	version, err := decompress.Uname(bytes.NewReader(kernel))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(version)
	// Output:
	// 6.12.1-arm
}
