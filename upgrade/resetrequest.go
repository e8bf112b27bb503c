package upgrade

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/strictjson"
	"github.com/osmith-dev/osmith/internal/unitfile"
)

// The variable of systemd 258 and later by which one boot asks the next one for a factory reset
// (systemd-factory-reset(8), "EFI variables"; https://systemd.io/FACTORY_RESET). What is in it, and
// what systemd makes of that, was observed of 262.
const resetVariable = "FactoryResetRequest"

var resetVendor = osmith.MustParseGUID("8cf2644b-4b0b-428f-9387-6d876050dc67")

// ResetRequest is the request for a factory reset that systemd keeps in the EFI variable
// FactoryResetRequest. Every request has OS and Boot.
type ResetRequest struct {
	OS           string // os-release ID of the requesting system
	OSVersion    string // VERSION_ID
	Image        string // IMAGE_ID
	ImageVersion string // IMAGE_VERSION
	Boot         osmith.GUID
}

// ResetMode is the meaning of a request in a boot, in the words of systemd-factory-reset status.
// The zero value is unknown.
type ResetMode string

// The modes that a request may cause.
const (
	// there is no request, or it is from a different system
	ResetUnspecified ResetMode = "unspecified"
	// the request is from this boot: the next boot carries it out
	ResetPending ResetMode = "pending"
	// the request is from an earlier boot: this boot carries it out
	ResetOn ResetMode = "on"
)

type resetJSON struct {
	OS           *string `json:"osReleaseId"`
	OSVersion    string  `json:"osReleaseVersionId,omitempty"`
	Image        *string `json:"osReleaseImageId,omitempty"`
	ImageVersion string  `json:"osReleaseImageVersion,omitempty"`
	Boot         *string `json:"bootId"`
}

// maxRequest bounds the text of a request, in bytes as the variable has them.
const maxRequest = 64 << 10

// ReadResetRequest reads the request for a factory reset from efivarfs (/sys/firmware/efi/efivars),
// a copy of it or a [bootloader.VariableStore]. Without one the error matches [fs.ErrNotExist]. If
// systemd would not accept it as a request, the error is an [*osmith.FormatError].
func ReadResetRequest(efivars fs.FS) (r *ResetRequest, err error) {
	defer prefix.Add("upgrade", &err)
	v, err := bootloader.ReadVariable(efivars, resetVariable, resetVendor)
	if err != nil {
		return nil, err
	}
	return parseResetRequest(v.Data)
}

// parseResetRequest reads the content of the variable: JSON in UTF-16, with a NUL behind it or
// without.
func parseResetRequest(b []byte) (*ResetRequest, error) {
	fail := func(field string, err error) (*ResetRequest, error) {
		return nil, &osmith.FormatError{Field: resetVariable + field, Err: err}
	}
	switch {
	case len(b) > maxRequest:
		return fail("", fmt.Errorf("%d bytes, want at most %d", len(b), maxRequest))
	case len(b)%2 != 0:
		return fail("", fmt.Errorf("%d bytes: want UTF-16, an even number of bytes", len(b)))
	}
	text := efi.DecodeUTF16(b)
	var j resetJSON
	if err := strictjson.Unmarshal([]byte(text), &j, strictjson.Complete, strictjson.ForeignKeys); err != nil {
		return fail("", err)
	}
	switch {
	case j.OS == nil || *j.OS == "":
		return fail(".osReleaseId", errors.New("missing"))
	case j.Boot == nil:
		return fail(".bootId", errors.New("missing"))
	}
	boot, err := unitfile.UUID(*j.Boot)
	if err != nil {
		return fail(".bootId", err)
	}
	r := &ResetRequest{OS: *j.OS, OSVersion: j.OSVersion, ImageVersion: j.ImageVersion, Boot: boot}
	if j.Image != nil {
		r.Image = *j.Image
	}
	return r, nil
}

// Mode is what the request means in a boot of a system: osRelease is its /etc/os-release
// ([github.com/osmith-dev/osmith/uki.ParseOSRelease]), and boot the kernel's
// /proc/sys/kernel/random/boot_id. As in systemd 262, ID and IMAGE_ID must be those of the
// requesting system, and versions are ignored. systemd.factory_reset= on the kernel command line
// takes precedence for systemd; Mode does not read it.
func (r *ResetRequest) Mode(osRelease map[string]string, boot osmith.GUID) ResetMode {
	switch {
	case boot.IsZero():
		return ""
	case r.OS != osRelease["ID"] || r.Image != osRelease["IMAGE_ID"]:
		return ResetUnspecified
	case r.Boot == boot:
		return ResetPending
	}
	return ResetOn
}

// Ask writes the request for the next boot, as systemd-factory-reset request does. It replaces an
// existing request.
func (r *ResetRequest) Ask(store bootloader.VariableStore) (err error) {
	defer prefix.Add("upgrade", &err)
	if r.OS == "" || r.Boot.IsZero() {
		return errors.New("a request for a factory reset: want the ID of the os-release and the ID of this boot")
	}
	boot := hex.EncodeToString(r.Boot[:])
	j := resetJSON{OS: &r.OS, OSVersion: r.OSVersion, ImageVersion: r.ImageVersion, Boot: &boot}
	if r.Image != "" {
		j.Image = &r.Image
	}
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	return store.Set(bootloader.EFIVariable{Name: resetVariable, Vendor: resetVendor, Attributes: bootloader.VariableKept, Data: efi.AppendUTF16(nil, string(text)+"\x00")})
}

// CompleteReset removes the request, if there is one, after the reset or to cancel it.
func CompleteReset(store bootloader.VariableStore) (err error) {
	defer prefix.Add("upgrade", &err)
	if err := store.Delete(resetVariable, resetVendor); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
