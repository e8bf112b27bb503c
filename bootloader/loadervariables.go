package bootloader

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/internal/prefix"
)

// writable are the variables of the Boot Loader Interface that an operating system writes as text
// (https://systemd.io/BOOT_LOADER_INTERFACE, bootctl(1)), with a test of the values that the loader
// reads. All others are the loader's own, or the stub's.
var writable = map[string]func(string) bool{
	"LoaderEntryOneShot":         nil,
	"LoaderEntryDefault":         nil,
	"LoaderEntryPreferred":       nil, // 260
	"LoaderEntrySysFail":         nil, // 258
	"LoaderConfigTimeout":        timeoutValue,
	"LoaderConfigTimeoutOneShot": timeoutValue,
}

// SetLoaderVariable writes a variable that tells systemd-boot what to start: LoaderEntryOneShot,
// LoaderEntryDefault, LoaderEntryPreferred, LoaderEntrySysFail with the id of an entry, and
// LoaderConfigTimeout and LoaderConfigTimeoutOneShot with seconds, or any other value of timeout in
// loader.conf. An empty text removes the variable, if there is one. All other names are refused:
// the loader or the stub writes them.
//
// [Releases] says which releases do not know a variable yet; [ReadMenu] shows whether there is an
// entry with that id.
func SetLoaderVariable(store VariableStore, name, text string) (err error) {
	defer prefix.Add("bootloader", &err)
	ok, known := writable[name]
	switch {
	case !known:
		return &VariableError{name, errors.New("not a text variable of systemd-boot that an operating system writes")}
	case text == "":
		if err := store.Delete(name, loaderVendor); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	case !utf8.ValidString(text) || strings.Contains(text, "\x00") || ok != nil && !ok(text):
		return &VariableError{name, fmt.Errorf("%w: %q", ErrConfigValue, text)}
	}
	return store.Set(EFIVariable{name, loaderVendor, VariableKept, append(efi.AppendUTF16(nil, text), 0, 0)})
}

// SystemTokenSize is the least size of LoaderSystemToken in bytes.
const SystemTokenSize = 32

// SetSystemToken gives the machine a LoaderSystemToken, by which the random seed of an image
// differs from machine to machine (https://systemd.io/BOOT_LOADER_INTERFACE), unless it has one of
// [SystemTokenSize] bytes or more: such a token is never replaced, and an unreadable one counts as
// such. The caller supplies the token, [SystemTokenSize] random bytes. SetSystemToken reports
// whether it was written.
func SetSystemToken(store VariableStore, token []byte) (written bool, err error) {
	defer prefix.Add("bootloader", &err)
	const name = "LoaderSystemToken"
	if len(token) != SystemTokenSize {
		return false, &VariableError{name, fmt.Errorf("%d bytes, want %d", len(token), SystemTokenSize)}
	}
	have, err := readVariable(store, name, loaderVendor)
	switch {
	case err == nil && len(have.Data) >= SystemTokenSize:
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	err = store.Set(EFIVariable{name, loaderVendor, VariableKept, token})
	return err == nil, err
}
