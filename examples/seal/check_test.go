package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith/examples/internal/tokens"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/tpm/sealing"
	"github.com/osmith-dev/osmith/uki"
)

const (
	vectors = "../../tpm/sealing/testdata/mkosi/"
	boots   = "../../tpm/testdata/mkosi/"
)

// checkDir has headers with the token of a real image, and its .pcrsig in a UKI of two profiles.
func checkDir(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name string, data []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	token, err := os.ReadFile(vectors + "token.json")
	require.NoError(t, err)
	signature, err := os.ReadFile(vectors + "pcrsig.json")
	require.NoError(t, err)
	pin := strings.Replace(string(token), `"tpm2-pcrs": []`, `"tpm2-pcrs": [], "tpm2-pin": true`, 1)
	write("header.json", []byte(`{"keyslots": {}, "tokens": {"0": {"type": "systemd-recovery", "keyslots": ["1"]}, "1": `+string(token)+`}}`))
	write("two.json", []byte(`{"tokens": {"0": `+pin+`, "2": `+string(token)+`}}`))
	write("pin.json", []byte(`{"tokens": {"0": `+pin+`, "1": `+pin+`}}`))
	write("other.json", []byte(`{"tokens": {"0": {"type": "systemd-recovery", "keyslots": ["1"]}}}`))
	write("number.json", []byte(`{"tokens": {"01": `+string(token)+`}}`))
	write("twice.json", []byte(`{"tokens": {"0": `+pin+`, "0": `+string(token)+`}}`))
	ten := strings.Replace(string(token), `"tpm2-pcrs": []`, `"tpm2-pcrs": [10], "tpm2-pcr-bank": "sha256"`, 1)
	write("first.json", []byte(`{"tokens": {"0": `+string(token)+`, "1": `+ten+`}}`))
	write("ten.json", []byte(ten))
	values, err := os.ReadFile(boots + "b2/pcrs.json")
	require.NoError(t, err)
	write("replay.json", []byte(`{"schema": "osmith.pcr/1", "pcrs": `+string(values)+`}`))
	write("volume", []byte("LUKS\xba\xbe\x00\x02"))
	write("text", []byte("text"))
	write("pcrs.json", []byte(`{"sha256": {"24": "00"}}`))
	write("short.json", []byte(`{"sha256": {"7": "00"}}`))
	write("md5.json", []byte(`{"md5": {"7": "00"}}`))
	image := &uki.Image{
		Stub: bytes.NewReader(petest.Stub("262")), Linux: bytes.NewReader(petest.Kernel("7.2.0")), OSRelease: []byte("ID=x\n"),
		PCRSignature: []byte("{}"), Profiles: []uki.Profile{{Profile: []byte("ID=main\nTITLE=x\n")}, {Profile: []byte("ID=other\nTITLE=y\n"), PCRSignature: signature}},
	}
	a, err := image.Assemble()
	require.NoError(t, err)
	data, err := io.ReadAll(io.NewSectionReader(a, 0, a.Size()))
	require.NoError(t, err)
	write("linux.efi", data)
	return dir
}

func TestCheck(t *testing.T) {
	dir := checkDir(t)
	token := vectors + "token.json"
	const boot = " -log " + boots + "b2/binary_bios_measurements"
	const user = " -userspace " + boots + "b2/tpm2-measure.log"
	const sig = " -pcrsig " + vectors + "pcrsig.json"
	zero := strings.Repeat("00", 32)
	for args, tt := range map[string]struct {
		status         int
		stdout, stderr string
	}{
		token + boot + user + sig: {0, "token, slots [0]: opens\n  if the TPM has the key 0x81000001 with the name 000b", ""},
		token + boot + user + " -until leave-initrd -pcrsig DIR/linux.efi": {0, "token, slots [0]: opens\n", ""},
		token + boot + user + " -until enter-initrd" + sig:                 {1, "token, slots [0]: does not open\n  no signature for the current PCR values: sha256 PCR 11 is 8978b363", "seal: the token does not open\n"},
		token + boot + " -userspace none" + sig:                            {1, "sha256 PCR 11 is 8978b363", "the token does not open"},
		token + boot + sig:                                                 {1, "token, slots [0]: not known\n  sha256 PCR 11: its value is not known: want -userspace", "seal: whether the token opens is not known\n"},
		token + boot + user:                                                {1, "the signatures of the UKI, its .pcrsig: not known", "not known"},
		token:                                                              {1, "the token names no PCR bank", "not known"},
		token + sig + " -pcrs " + boots + "b2/pcrs.json":                   {1, "(sha256: opens, sha384: does not open, ", "not known"},
		token + sig + " -banks sha256 -pcrs " + boots + "b2/pcrs.json":     {0, "opens", ""},
		token + sig + " -banks sha256,sha1 -pcrs " + boots + "b2/pcrs.json -pcr 11=" + zero:                       {1, "whether the sha1", ""},
		token + sig + " -banks sha256 -pcrs " + boots + "b2/pcrs.json -pcr 11=" + zero:                            {1, "sha256 PCR 11 is 0000", "does not open"},
		"DIR/first.json" + boot + user + sig:                                                                      {0, "token 1, slots [0]: not known\n  sha256 PCR 10: its value is not known: it is extended by others", ""},
		"DIR/ten.json" + boot + user + sig:                                                                        {1, "not known\n  sha256 PCR 10", "seal: whether the token opens is not known"},
		token + sig + " -banks sha256 -pcrs DIR/replay.json -earlier DIR/replay.json -counter 0x01800001=5,2=0x6": {0, "opens", ""},
		"DIR/ten.json" + sig + " -pcrs DIR/replay.json -pcr 10=" + zero + ",11=" + zero:                           {1, "sha256 PCR 11 is 0000", "does not open"},
		token + sig + " -banks sha256 -log ../../tpm/testdata/compat/v0/prediction.bin":                           {1, "PCR 11", "the token "},
		token + " -userspace none":              {2, "", "belong to a -log"},
		token + boot + " -userspace DIR/none":   {2, "", "none"},
		token + " -pcrs DIR/none":               {2, "", "none"},
		token + " -pcrs DIR/text":               {1, "", "JSON at 0x0"},
		token + " -pcrs DIR/volume":             {2, "", "LUKS"},
		token + " -pcr 7=zz":                    {2, "", "hexadecimal"},
		"DIR/header.json" + boot + user + sig:   {0, "token 1, slots [0]: opens\n  if the TPM has the key 0x81000001 with the name 000ba7e008bfc4b5d4360e9c0eb1b87b1db9ed9308a2ea288c4fd2cc73e33d529dab\ntoken 0: systemd-recovery, not looked at\n", ""},
		"DIR/two.json" + boot + user + sig:      {0, "token 0, slots [0]: does not open\n  a PIN is required", ""},
		"DIR/two.json" + sig:                    {1, "token 2, slots [0]: not known\n", "whether one of 2 tokens opens is not known"},
		"DIR/pin.json" + boot + user + sig:      {1, "", "none of 2 tokens opens"},
		"DIR/pin.json -pin" + boot + user + sig: {1, "sealed to a different policy from the one in the token", "none of 2 tokens opens"},
		"DIR/other.json":                        {1, "", "no token of type systemd-tpm2 or osmith-tpm2"},
		"DIR/number.json":                       {2, "", `token "01": not a number`},
		"DIR/twice.json":                        {1, "", "twice"},
		"DIR/volume":                            {2, "", "a LUKS volume: want what cryptsetup luksDump --dump-json-metadata prints"},
		"DIR/text":                              {1, "", "JSON at 0x0"},
		"DIR/none":                              {2, "", "none"},
		token + " -log DIR/text":                {1, "", "text"},
		token + boot + " -userspace DIR/text":   {1, "", "userspace log"},
		token + boot + user + " -until never":   {2, "", `no record with a word that begins with "never"`},
		token + " -until x":                     {2, "", "belong to a -log"},
		token + boot + " -until x":              {2, "", "want the log that it is in"},
		token + " -pcrs DIR/pcrs.json":          {2, "", `PCR "24"`},
		token + " -pcrs DIR/short.json":         {2, "", "PCR 7: want 64 hexadecimal digits"},
		token + " -earlier DIR/md5.json":        {2, "", `bank "md5"`},
		token + " -pcr 11":                      {2, "", "want a value of 20, 32, 48 or 64 bytes"},
		token + " -banks md5":                   {2, "", "-banks md5: want names"},
		token + " -banks sha1,sha1":             {2, "", "each once"},
		token + " -counter x=1":                 {2, "", "-counter x=1"},
		token + " -counter 1":                   {2, "", "-counter 1: want"},
		token + " -pcrsig DIR/text":             {1, "", "DIR/text"},
		token + " -pcrlock DIR/text":            {1, "", "pcrlock.json"},
		"":                                      {2, "", "0 operands"},
	} {
		t.Run(args, func(t *testing.T) {
			var out, stderr bytes.Buffer
			status := program.Run(context.Background(), append([]string{"check"}, strings.Fields(strings.ReplaceAll(args, "DIR", dir))...), &out, &stderr)
			require.Equal(t, tt.status, status, "%s%s", out.String(), stderr.String())
			require.Contains(t, out.String(), tt.stdout)
			require.Contains(t, stderr.String(), strings.ReplaceAll(tt.stderr, "DIR", dir))
			if status == 2 {
				require.Empty(t, out.String())
			}
			require.Equal(t, strings.Contains(out.String(), ": opens\n"), strings.Contains(out.String(), "\n  if "), "what a yes takes for granted, and only that")
		})
	}
}

// TestCheckObject is what scripts read.
func TestCheckObject(t *testing.T) {
	run := func(status int, args string) (r checkResult) {
		var out, stderr bytes.Buffer
		require.Equal(t, status, program.Run(context.Background(), append([]string{"check", "-json"}, strings.Fields(args)...), &out, &stderr), stderr.String())
		object(t, out.String(), &r)
		return r
	}
	dir := checkDir(t)
	const known = " -log " + boots + "b2/binary_bios_measurements -userspace " + boots + "b2/tpm2-measure.log -pcrsig " + vectors + "pcrsig.json"
	r := run(0, dir+"/two.json"+known)
	require.Equal(t, schema, r.Schema)
	require.Equal(t, sealing.VerdictOpens, r.Verdict)
	require.Len(t, r.Tokens, 2)
	require.Equal(t, 0, *r.Tokens[0].ID)
	require.Equal(t, sealing.VerdictDoesNotOpen, r.Tokens[0].Verdict)
	require.Equal(t, 2, *r.Tokens[1].ID)
	require.Equal(t, "sha256", r.Tokens[1].Bank)
	require.Empty(t, r.Tokens[1].Token.Bank)
	require.Equal(t, "sha256", run(1, dir+"/ten.json").Tokens[0].Token.Bank)
	first := run(1, dir+"/ten.json"+known)
	require.Equal(t, sealing.VerdictUnknown, first.Verdict)
	require.Equal(t, []int{10}, first.Tokens[0].Reasons[0].PCRs)
	require.Empty(t, r.Tokens[1].Reasons)
	require.NotEmpty(t, r.Tokens[1].Assumes)
	require.Empty(t, r.Skipped)
	r = run(0, dir+"/header.json"+known)
	require.Equal(t, []tokens.Skipped{{ID: 0, Type: "systemd-recovery"}}, r.Skipped)
	r = run(1, vectors+"token.json -banks sha256 -pcr 11="+strings.Repeat("00", 32)+known[strings.Index(known, " -pcrsig"):])
	require.Equal(t, sealing.VerdictDoesNotOpen, r.Verdict)
	require.Nil(t, r.Tokens[0].ID)
	require.Equal(t, sealing.ReasonSignature, r.Tokens[0].Reasons[0].Kind)
	require.Equal(t, []int{11}, r.Tokens[0].Reasons[0].PCRs)
	r = run(1, vectors+"token.json -banks sha256"+known[strings.Index(known, " -pcrsig"):])
	require.Equal(t, sealing.VerdictUnknown, r.Verdict)
	require.Equal(t, reasonObject{Kind: sealing.ReasonPCR, Bank: "sha256", PCRs: []int{11}, Text: "sha256 PCR 11: not known"}, r.Tokens[0].Reasons[0])
}
