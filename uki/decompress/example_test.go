package decompress_test

import (
	"bytes"
	"fmt"
	"os"

	"github.com/osmith-dev/osmith/uki/decompress"
)

func ExampleKernel() {
	compressed, err := os.ReadFile("testdata/crc64.xz") // Image.xz
	if err != nil {
		fmt.Println(err)
		return
	}
	format, err := decompress.Format(bytes.NewReader(compressed))
	if err != nil {
		fmt.Println(err)
		return
	}
	var plain bytes.Buffer // a file
	n, err := decompress.Kernel(&plain, bytes.NewReader(compressed), decompress.Options{})
	fmt.Println(format, len(compressed), n, err)
	uname, err := decompress.Uname(bytes.NewReader(compressed))
	fmt.Println(uname, err)
	// Output:
	// xz 7092 77000 <nil>
	// 6.12.1-arm <nil>
}
