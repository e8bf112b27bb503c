package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRefused(t *testing.T) {
	dir, data := image(t)
	tree, odd, out := filepath.Join(dir, "tree"), filepath.Join(dir, "odd"), filepath.Join(dir, "out")
	var f formatResult
	object(t, ok(t, "format", "-data", data, "-tree", tree, "-json"), &f)
	require.NoError(t, os.WriteFile(odd, make([]byte, 4097), 0o600))
	before := names(t, dir)
	format := func(args ...string) []string { return append([]string{"format", "-data", data, "-tree", out}, args...) }
	verify := func(args ...string) []string {
		return append([]string{"verify", "-data", data, "-tree", tree}, args...)
	}
	root, wrong := "-root="+f.RootHash, "00"+f.RootHash[2:]
	if wrong == f.RootHash { // one salt in 256
		wrong = "01" + f.RootHash[2:]
	}
	tests := map[string]struct {
		args   []string
		status int
		want   string
	}{
		"nothing":          {nil, 2, "usage: verity format"},
		"verb":             {[]string{"frob"}, 2, `no verb "frob"`},
		"flag":             {format("-x"), 2, "no flag -x"},
		"operand":          {format("x"), 2, `unexpected argument "x"`},
		"dashes":           {format("--", "-json"), 2, `unexpected argument "-json"`},
		"progress":         {format("-progress", "x"), 2, "want auto, bar, json or none"},
		"no-data":          {[]string{"format", "-tree", out}, 2, "-data is missing"},
		"absent":           {[]string{"format", "-data", filepath.Join(dir, "absent"), "-tree", out}, 2, "absent"},
		"directory":        {[]string{"format", "-data", dir, "-tree", out}, 2, "is a directory"},
		"into-directory":   {[]string{"format", "-data", data, "-tree", dir}, 2, "is a directory"},
		"no-such-place":    {[]string{"format", "-data", data, "-tree", filepath.Join(dir, "x", "y")}, 2, "create"},
		"odd":              {[]string{"format", "-data", odd, "-tree", out}, 2, "drop 1 bytes"},
		"salt":             {format("-salt", "xy"), 2, "-salt: "},
		"long-salt":        {format("-salt", string(bytes.Repeat([]byte("00"), 257))), 2, "257 bytes"},
		"uuid":             {format("-uuid", "1234"), 2, "not a UUID"},
		"hash":             {format("-hash", "md5"), 2, "md5"},
		"hash-format":      {format("-format", "2"), 2, "want 0 or 1"},
		"block-size":       {format("-data-block-size", "1000"), 2, "not a power of two"},
		"block-size-zero":  {format("-hash-block-size", "0"), 2, "block size of 0"},
		"offset":           {format("-hash-offset", "100"), 2, "not a multiple of 512"},
		"same":             {[]string{"format", "-data", data, "-tree", data}, 2, "-hash-offset must say"},
		"fec-roots":        {format("-fec", filepath.Join(dir, "fec"), "-fec-roots", "25"), 2, "want 2 to 24"},
		"fec-roots-alone":  {format("-fec-roots", "2"), 2, "without -fec"},
		"fec-is-data":      {format("-fec", data), 2, "-fec-offset must say"},
		"fec-is-tree":      {format("-fec", out), 2, "-fec-offset must say"},
		"fec-in-data":      {format("-fec", data, "-fec-offset", "4096"), 2, "-fec-offset 4096 is inside the data, which has 1228800 bytes"},
		"fec-in-tree":      {format("-fec", out, "-fec-offset", "4096"), 2, "inside the tree, which ends at 20480"},
		"fec-offset-odd":   {format("-fec", out, "-fec-offset", "20992"), 2, "not a multiple of the block size"},
		"fec-offset-alone": {format("-fec-offset", "8192"), 2, "without -fec"},
		"fec-alone-verify": {verify("-root", f.RootHash, "-fec-roots", "2"), 2, "without -fec"},
		"inside":           {[]string{"format", "-data", data, "-tree", data, "-hash-offset", "819200"}, 2, "-hash-offset 819200 is inside the data, which has 1228800 bytes"},
		"inside-blocks":    {[]string{"format", "-data", data, "-tree", data, "-hash-offset", "819200", "-data-blocks", "201"}, 2, "inside the data, which has 823296 bytes"},
		"data-blocks":      {format("-data-blocks", "301"), 2, "has 300 blocks"},
		"data-blocks-less": {format("-data-blocks", "-1"), 2, "has 300 blocks"},
		"data-blocks-said": {verify("-root", f.RootHash, "-data-blocks", "200"), 2, "give it with -no-superblock"},
		"fec-unequal":      {format("-fec", filepath.Join(dir, "fec"), "-hash-block-size", "512"), 2, "one size"},
		"root":             {verify("-root", "xy"), 2, "not a root hash"},
		"root-missing":     {verify(), 2, "-root is missing"},
		"root-short":       {verify("-root", "00"), 2, "root hash: 1 bytes"},
		"root-wrong":       {verify("-root", wrong), 1, "root hash does not match"},
		"no-tree":          {[]string{"verify", "-data", data, "-tree", data, root}, 1, "no verity superblock"},
		"tree-absent":      {[]string{"verify", "-data", data, "-tree", out, root}, 2, "out"},
		"salt-given":       {verify(root, "-salt", "00"), 2, "give it with -no-superblock"},
		"uuid-wrong":       {verify(root, "-uuid", testUUID), 1, "uuid"},
		"short-data":       {[]string{"verify", "-data", odd, "-tree", tree, root}, 1, "4097"},
		"short-fec":        {verify(root, "-fec", odd), 1, "parity"},
		"repair-no-fec":    {[]string{"repair", "-data", data, "-tree", tree, root}, 2, "-fec is missing"},
		"repair-onto-data": {[]string{"repair", "-data", data, "-tree", tree, root, "-fec", odd, "-o", data}, 2, "leave it out"},
		"diff-one":         {[]string{"diff", tree}, 2, "operands: want OLDTREE NEWTREE"},
		"diff-no-tree":     {[]string{"diff", tree, data}, 1, "no verity superblock"},
		"sign-no-key":      {[]string{"sign", root, "-key", certFile, "-cert", certFile, "-o", out}, 2, "no private key"},
		"sign-no-cert":     {[]string{"sign", root, "-key", keyFile, "-cert", keyFile, "-o", out}, 2, "no certificate"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := call3(t, tt.args...)
			assert.Equal(t, tt.status, status, stderr)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, tt.want)
			assert.NotContains(t, stderr, "verity: verity: ")
			assert.Equal(t, before, names(t, dir), "something was left behind")
		})
	}
	status, _, stderr := call3(t, "verify", "-h")
	assert.Zero(t, status)
	assert.Contains(t, stderr, "example: verity verify")
	status, _, _ = call3(t, "--help")
	assert.Zero(t, status)

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var b bytes.Buffer
	assert.Equal(t, 2, program.Run(ctx, format(), &b, &b))
	assert.Equal(t, before, names(t, dir))
}
