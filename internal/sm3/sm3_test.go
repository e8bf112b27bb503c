package sm3

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The two examples of GB/T 32905-2016, annex A.
func TestStandard(t *testing.T) {
	for in, want := range map[string]string{
		"abc":                      "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0",
		strings.Repeat("abcd", 16): "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732",
	} {
		d := Sum([]byte(in))
		require.Equal(t, want, hex.EncodeToString(d[:]))
	}
}

// Around the ends of blocks, whole and in parts: what OpenSSL 3.0.19 ("openssl dgst -sm3") says.
func TestLengths(t *testing.T) {
	for n, want := range map[int]string{
		0:    "1ab21d8355cfa17f8e61194831e81a8f22bec8c728fefb747ed035eb5082aa2b",
		1:    "799b719ac031fc89c6d8925a487dad07308f837b7ab7bbc7cebd3a4118fd2f38",
		55:   "5cb50a0135e57e0cb6069a8cd83b99f094185abe85423f38fa89aa9e73547b58",
		56:   "667672b5d501b091489bdeedba1c3375e3042e2c3a324f5b1fc00696a8c0dcd6",
		63:   "fa5e9c08966f5b089ea60864af64bfb765bd79dfe494ea859ffa904f12dc512c",
		64:   "cf1bff7b8582d52c021ba8ea9c1ca9e59d42f4458f5516a591fe049d2c7ed017",
		65:   "7e9232e6bf963e4af754d62700f6fe75e1537d37240a9c3de0a7473d6c283f81",
		119:  "fee28cb4c4211af18e368c47a057184106cac42a5adf5ff21377021cd5003b77",
		120:  "fbb140ae72c97a7d4b88ff3e67235dd540e7f177393d7722e5e6ac63b1a8d6d9",
		127:  "efd765bbf78ff4e94ca9c49effa2204d5e7a360d5434cc815e89dbafec64091f",
		128:  "6e8b14eda017697645306ec96c68f2fbf3204e2235ad53cc18770274e4038e76",
		200:  "c0078b57d8c95d54a7024291a86dda1ff67552dabd3041233579825794ae81a2",
		1000: "44c5803e122527a3e218a73d6d19c442f18c8a5d27c40a677b9fe56aebf06fb2",
	} {
		in := make([]byte, n)
		for i := range in {
			in[i] = byte(i*7 + n)
		}
		d := Sum(in)
		require.Equal(t, want, hex.EncodeToString(d[:]), "%d bytes", n)
		for cut := range n + 1 {
			require.Equal(t, d, Sum(in[:cut], in[cut:]), "%d bytes, cut after %d", n, cut)
			require.Equal(t, d, Sum(in[:cut/2], in[cut/2:cut], in[cut:]))
		}
	}
}
