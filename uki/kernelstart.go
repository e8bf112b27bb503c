package uki

import (
	"fmt"
	"io"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/arch"
	"github.com/osmith-dev/osmith/internal/pe"
	"github.com/osmith-dev/osmith/internal/sdstub"
)

// KernelError says why the stub does not start a kernel, or why it is unknown whether it does.
type KernelError struct {
	Findings []Finding // findings of Check, at least one
}

func (e *KernelError) Error() string {
	var parts []string
	for _, f := range e.Findings {
		parts = append(parts, f.Text)
	}
	return strings.Join(parts, "; ")
}

// kernelFindings are the reasons for which the stub of that machine type and release does not start
// a kernel, or may not. The row is the zero value for a release that is not known.
func kernelFindings(k *pe.File, kernel io.ReaderAt, stub uint16, row sdstub.Release, profile int) ([]Finding, error) {
	objections, err := sdstub.JudgeKernel(k, kernel, stub, row)
	if err != nil {
		return nil, err
	}
	name := "the stub"
	if row.Number > 0 {
		name = fmt.Sprintf("the stub of systemd %d", row.Number)
	}
	var out []Finding
	for _, o := range objections {
		f := Finding{SeverityError, string(o.Trait), ".linux", profile, ""}
		if o.Answer != sdstub.AnswerRefuses {
			f.Severity = SeverityUnknown
			f.Text = fmt.Sprintf("whether %s starts the kernel is not known: %s", name, o.Text)
		} else {
			f.Text = fmt.Sprintf("%s does not start the kernel (%s): %s", name, evidenceNames[o.Evidence], o.Text)
		}
		out = append(out, f)
	}
	return out, nil
}

// evidenceNames say how it is known what a stub does.
var evidenceNames = [...]string{
	sdstub.EvidenceNone:   "if it does what the release does that it is taken for",
	sdstub.EvidenceSource: "by its source",
	sdstub.EvidenceBooted: "seen in a boot",
}

// stubRow is how the stub of a plan behaves, the zero value if that is not known.
func stubRow(version osmith.Version, versionErr error, assume int) sdstub.Release {
	row, err := knownRelease(version, versionErr, assume)
	if err != nil {
		return sdstub.Release{}
	}
	return row
}

// checkKernels refuses kernels, parts of these names, that the stub does not start.
func (p *plan) checkKernels(kernels []osmith.Source, names []string, assume int) error {
	version, versionErr := programVersion(p.stubSrc, p.stub, sdstub.ProgramStub)
	row := stubRow(version, versionErr, assume)
	for i, k := range kernels {
		found, err := kernelFindings(p.linux[i], k, p.stub.Machine, row, -1)
		if err != nil {
			return partError(names[i], "reading the headers: %w", err)
		}
		if len(found) > 0 {
			return &PartError{names[i], &KernelError{found}}
		}
	}
	return nil
}

// sameArchitecture allows a 32-bit stub for x86 to start a 64-bit kernel, and nothing else that
// differs.
func sameArchitecture(stub, kernel uint16) bool {
	return stub == kernel || stub == arch.X86.Machine && kernel == arch.X8664.Machine
}
