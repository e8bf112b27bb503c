package uki_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/petest"
	"github.com/osmith-dev/osmith/internal/sdstub"
	"github.com/osmith-dev/osmith/uki"
)

// What the stub in an image does not start is not built, unless that is asked for by name, and is
// an error of Check even then.
func TestRefusedKernels(t *testing.T) {
	for _, version := range []string{"252", "257.13", "258.2", "259", "260", "261", "262.1-1", "999", ""} {
		stub := petest.Stub(version)
		release, err := sdstub.Find(osmith.Version(version), 0)
		if version == "" {
			stub = bytes.ReplaceAll(petest.Stub("262"), []byte("LoaderInfo"), []byte("no marker."))
		}
		assert.Equal(t, version == "" || version == "999", err != nil)
		for _, k := range petest.RefusedKernels(petest.Kernel("6.12.0")) {
			t.Run(version+" "+k.Name, func(t *testing.T) {
				im := good()
				im.Stub, im.Linux, im.Uname = source(stub), source(k.Kernel), "6.12.0"
				answer, _ := sdstub.KernelAnswer(sdstub.KernelTrait(k.Name), release.Number)
				_, err := im.Assemble()
				want := []string{k.Name}
				switch answer {
				case sdstub.AnswerStarts:
					want = []string{}
				case sdstub.AnswerUnknown:
					want[0] += "?"
				}
				if k.Name == "linux-directories" {
					// and its header has room for those that it lacks
					switch answer, _ := sdstub.KernelAnswer(sdstub.KernelHeaderSize, release.Number); answer {
					case sdstub.AnswerRefuses:
						want = append(want, "linux-header-size")
					case sdstub.AnswerUnknown:
						want = append(want, "linux-header-size?")
					}
				}
				var refused *uki.KernelError
				var part *uki.PartError
				if len(want) == 0 {
					require.NoError(t, err)
				} else {
					require.ErrorAs(t, err, &part)
					assert.Equal(t, "Linux", part.Part)
					require.ErrorAs(t, err, &refused)
					assert.Equal(t, want, codes(refused.Findings))
					assert.ErrorContains(t, err, refused.Findings[0].Text)
				}
				im.AllowKernelThatTheStubRefuses = true
				f, err := uki.Open(source(assemble(t, &im)))
				require.NoError(t, err)
				if release.Number == 0 {
					want = append([]string{"(stub-unknown)"}, want...)
				}
				assert.Equal(t, want, codes(f.Check()))
			})
		}
	}
}

func TestRefusedKernelText(t *testing.T) {
	kernels := make(map[string][]byte)
	for _, k := range petest.RefusedKernels(petest.Kernel("6.12.0")) {
		kernels[k.Name] = k.Kernel
	}
	im := good()
	im.Linux = source(kernels["linux-relocations"])
	_, err := im.Assemble()
	assert.EqualError(t, err, "uki: Linux: the stub of systemd 262 does not start the kernel (seen in a boot): has base relocations (a directory of 12 bytes), which the stub does not apply")
	im.Linux, im.Stub = source(kernels["linux-image-base"]), source(petest.Stub("259.1"))
	_, err = im.Assemble()
	assert.EqualError(t, err, "uki: Linux: the stub of systemd 259 does not start the kernel (by its source): ImageBase is 0x1000000, want 0")
	im.Stub = source(petest.Stub("999"))
	_, err = im.Assemble()
	assert.EqualError(t, err, "uki: Linux: whether the stub starts the kernel is unknown: ImageBase is 0x1000000, want 0")
	im.AssumeStub = 258
	_, err = im.Assemble()
	assert.EqualError(t, err, "uki: Linux: the stub of systemd 258 does not start the kernel (if it does what the release does that it is taken for): ImageBase is 0x1000000, want 0")
	im.AssumeStub = 262
	_, err = im.Assemble()
	assert.NoError(t, err)
}

// The kernel of a profile is started by the same stub, and so is one that an edit brings.
func TestRefusedKernelOfProfileAndEdit(t *testing.T) {
	var kernel []byte
	for _, k := range petest.RefusedKernels(petest.Kernel("6.12.0")) {
		if k.Name == "linux-raw-size" {
			kernel = k.Kernel
		}
	}
	im := good()
	im.Profiles = []uki.Profile{{Profile: []byte("ID=other"), Linux: source(kernel)}}
	var refused *uki.KernelError
	_, err := im.Assemble()
	require.ErrorAs(t, err, &refused)
	assert.ErrorContains(t, err, "Profiles[0].Linux: ")
	im.AllowKernelThatTheStubRefuses = true
	f, err := uki.Open(source(assemble(t, &im)))
	require.NoError(t, err)
	assert.Equal(t, []string{"linux-raw-size1"}, codes(f.Check()))

	im = good()
	f, err = uki.Open(source(assemble(t, &im)))
	require.NoError(t, err)
	e := f.Edit()
	require.NoError(t, e.Replace(".linux", -1, source(kernel)))
	_, err = e.Assemble()
	var loss *uki.LossError
	require.ErrorAs(t, err, &loss)
	assert.Equal(t, []uki.Loss{uki.LossStart}, loss.Losses)
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, []string{"linux-raw-size"}, codes(refused.Findings))
	assert.ErrorContains(t, err, "SizeOfRawData")
	e.Lose(uki.LossStart)
	_, err = e.Assemble()
	require.NoError(t, err)

	// A profile alone has no stub that would start anything.
	p := uki.Profile{Profile: []byte("ID=other"), Linux: source(kernel)}
	_, err = p.Assemble(source(petest.AddonStub("262")))
	require.NoError(t, err)
}

// A stub for x86-64 starts no kernel for 32 bits, and a stub for 32 bits both.
func TestKernelOfOtherWidth(t *testing.T) {
	le := binary.LittleEndian
	narrow := func(b []byte) []byte { le.PutUint16(b[64+4:], 0x14c); return b }
	im := good()
	im.Linux = source(narrow(petest.Kernel("6.12.0")))
	_, err := im.Assemble()
	assert.ErrorContains(t, err, "machine type")
	im.Stub = source(narrow(petest.Stub("262")))
	_, err = im.Assemble()
	assert.NoError(t, err)
	im.Linux = source(petest.Kernel("6.12.0"))
	_, err = im.Assemble()
	assert.NoError(t, err)
}
