package bootloader

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/internal/prefix"
	"github.com/osmith-dev/osmith/internal/varstore"
)

// VariableImage are the variables of a virtual machine that is off: the firmware volume in which
// edk2 keeps them, such as OVMF_VARS.fd (UEFI Platform Initialization Specification 1.8, volume 3,
// section 3.2.1). In a volume with which no machine was started, there are no variables of the boot
// menu: [ReadVariables] returns an [fs.ErrNotExist], and you may use an empty [MachineVariables].
// It is not safe for several goroutines at once.
type VariableImage struct {
	image []byte
	store *varstore.Store
}

// ParseVariableImage reads the volume at the start of image, which is not changed. If image has any
// other content, the error is an [*osmith.FormatError].
func ParseVariableImage(image []byte) (v *VariableImage, err error) {
	defer prefix.Add("bootloader", &err)
	v = &VariableImage{}
	if err := v.use(bytes.Clone(image)); err != nil {
		return nil, err
	}
	return v, nil
}

func (v *VariableImage) use(image []byte) error {
	s, err := varstore.Parse(image)
	if err != nil {
		return err
	}
	v.image, v.store = image, s
	return nil
}

// Bytes returns the image with the present variables. Write it beside the file of the machine and
// rename it, so that a power cut leaves the old or the new file.
func (v *VariableImage) Bytes() []byte { return bytes.Clone(v.image) }

// Free is how many bytes are free for variables, each with a header and its name.
func (v *VariableImage) Free() int64 { return v.store.Size() - v.store.Live() }

// Open has the form of efivarfs.
func (v *VariableImage) Open(name string) (fs.File, error) {
	var files variableFiles
	for _, s := range v.store.Variables {
		files = append(files, EFIVariable{s.Name, s.Vendor, s.Attributes, s.Data})
	}
	return files.Open(name)
}

// Set is documented with [VariableStore]. The rest of the image stays as it is, including the times
// of authenticated variables, but the space of deleted variables is reused. If there is no room,
// the error is [ErrNoSpace]; for a variable that is written with a signature it is
// [ErrVariableReadOnly]: signing/secureboot writes those.
func (v *VariableImage) Set(w EFIVariable) (err error) {
	defer prefix.Add("bootloader", &err)
	if err := checkVariable(w); err != nil {
		return err
	}
	if w.Attributes&VariableNonVolatile == 0 {
		return &VariableError{w.Name, fmt.Errorf("%w: attributes 0x%x: the image holds only non-volatile variables", ErrVariableRefused, w.Attributes)}
	}
	if same, err := isSet(v, w); err != nil || same {
		return err
	}
	all := slices.Clone(v.store.Variables)
	i, err := v.changeable(w.Name, w.Vendor)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		all = append(all, varstore.Variable{Name: w.Name, Vendor: w.Vendor, Attributes: w.Attributes, Data: w.Data})
	case err != nil:
		return err
	case all[i].Attributes != w.Attributes:
		return otherAttributes(w, all[i].Attributes)
	default:
		all[i].Data = w.Data
	}
	return v.replace(w.Name, all)
}

// Delete is documented with [VariableStore].
func (v *VariableImage) Delete(name string, vendor osmith.GUID) (err error) {
	defer prefix.Add("bootloader", &err)
	i, err := v.changeable(name, vendor)
	if err != nil {
		return err
	}
	return v.replace(name, slices.Delete(slices.Clone(v.store.Variables), i, i+1))
}

// changeable is the place of a variable that is written without a signature.
func (v *VariableImage) changeable(name string, vendor osmith.GUID) (int, error) {
	i := slices.IndexFunc(v.store.Variables, func(s varstore.Variable) bool { return s.Name == name && s.Vendor == vendor })
	if i < 0 {
		return 0, &VariableError{name, fs.ErrNotExist}
	}
	if a := v.store.Variables[i].Attributes; a&^VariableKept != 0 {
		return 0, &VariableError{name, fmt.Errorf("%w: has attributes 0x%x", ErrVariableReadOnly, a)}
	}
	return i, nil
}

func (v *VariableImage) replace(name string, all []varstore.Variable) error {
	image, err := v.store.Replace(all)
	if errors.Is(err, varstore.ErrNoRoom) {
		err = fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	if err == nil {
		err = v.use(image)
	}
	if err != nil {
		return &VariableError{name, err}
	}
	return nil
}
