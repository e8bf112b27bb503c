package main

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/internal/efi"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/verity/dm"
)

// userspaceJSON is what systemd measures beside the phases, up to the moment of interest: words, or
// the log of an earlier boot of the machine, which takes the place of everything but nvWords. What
// is left out is not known.
type userspaceJSON struct {
	// /run/log/systemd/tpm2-measure.log of an earlier boot, or of this one
	Log string `json:"log"`
	// the word of it that was measured last at that moment: "nvpcr-separator"; left out: the last
	// of "phases"
	Until       string `json:"until"`
	PhasesAlone bool   `json:"phasesAlone"` // nothing but phases is measured
	// in the initrd: what it is too old for is not measured
	Systemd     osmith.Version `json:"systemd"`
	Separator   *bool          `json:"separator"`   // "os-separator" of systemd 261
	NVPCRs      []string       `json:"nvpcrs"`      // "nvpcr-init:…" of 259; []: none
	NVSeparator *bool          `json:"nvSeparator"` // "nvpcr-separator" of 262
	Identity    []wordJSON     `json:"identity"`    // into PCR 15; []: nothing
	// what NvPCRs are extended with, by name; null: not known
	NVWords map[string][]wordJSON `json:"nvWords"`
}

// wordJSON is "WORD", or {"word": "WORD", "digests": {"sha256": "HEX"}} for one whose digest is not
// its own, such as that of a volume key.
type wordJSON tpm.Word

func (w *wordJSON) UnmarshalJSON(raw []byte) error {
	if bytes.HasPrefix(raw, []byte{'"'}) {
		return json.Unmarshal(raw, &w.Text)
	}
	var in struct {
		Word    string            `json:"word"`
		Digests map[string]string `json:"digests"`
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return fmt.Errorf("a word of userspace: %w", err)
	}
	w.Text, w.Digests = in.Word, nil
	for name, text := range in.Digests {
		h, err := tpm.BankByName(name)
		if err != nil {
			return fmt.Errorf("word %q: %w", in.Word, err)
		}
		digest, err := hex.DecodeString(text)
		if err != nil || len(digest) != h.Size() {
			return fmt.Errorf("word %q: %q is no %s digest", in.Word, text, name)
		}
		if w.Digests == nil {
			w.Digests = map[crypto.Hash][]byte{}
		}
		w.Digests[h] = digest
	}
	return nil
}

// userspaceFlags are a log of userspace in the place of what BOOT.json says of it.
type userspaceFlags struct {
	log, until string
	words      bool // until is about another log, where BOOT.json has words
}

// apply changes what a BOOT.json says.
func (f userspaceFlags) apply(b *bootJSON) error {
	in := b.Userspace
	switch {
	case f.log != "":
		b.Userspace = &userspaceJSON{Log: f.log, Until: f.until}
		if in != nil {
			b.Userspace.NVWords = in.NVWords
		}
	case f.until != "" && (in == nil || in.Log == "") && f.words:
	case f.until != "" && (in == nil || in.Log == ""):
		return cli.Usagef("-until needs a log of userspace")
	case f.until != "":
		in.Until = f.until
	}
	return nil
}

// moment says in a line up to where a boot is predicted, and what is known of userspace.
func moment(in bootJSON, b tpm.Boot) string {
	line := "when the kernel starts"
	if len(b.Phases) > 0 {
		line = "after " + strings.Join(b.Phases, ":")
	}
	switch u := in.Userspace; {
	case u == nil && len(b.Phases) > 0:
		line += "; what else userspace measures is not known"
	case u == nil:
	case u.PhasesAlone:
		line += "; userspace measures nothing else"
	case u.Log != "":
		line += "; userspace as in " + u.Log
		if u.Until != "" {
			line += fmt.Sprintf(" up to %q", u.Until)
		}
	default:
		line += "; userspace as described"
	}
	return line
}

func readUserspaceLog(name string) (*tpm.UserspaceLog, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	u, err := tpm.ParseUserspaceLog(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return u, nil
}

// userspace describes what systemd measures.
func (c *composer) userspace() error {
	in := c.in.Userspace
	if in == nil {
		return nil
	}
	said := func(b *bool) tpm.Measured {
		switch {
		case b == nil:
			return tpm.MeasuredUnknown
		case *b:
			return tpm.MeasuredYes
		}
		return tpm.MeasuredNo
	}
	u := &tpm.Userspace{Systemd: in.Systemd, Separator: said(in.Separator), NVPCRs: in.NVPCRs, NVSeparator: said(in.NVSeparator), Identity: words(in.Identity)}
	if in.PhasesAlone {
		if in.Log != "" || in.Systemd != "" || in.Separator != nil || in.NVPCRs != nil || in.NVSeparator != nil || in.Identity != nil || in.NVWords != nil {
			return errors.New("userspace: \"phasesAlone\" says that there is nothing else, and there is something else beside it")
		}
		u = tpm.PhasesAlone()
	}
	for name, list := range in.NVWords {
		if u.NVWords == nil {
			u.NVWords = map[string][]tpm.Word{}
		}
		u.NVWords[name] = words(list)
	}
	c.out.Userspace = u
	if in.Log == "" {
		if in.Until != "" {
			return errors.New("userspace: \"until\" needs \"log\"")
		}
		return c.verityWords(nil)
	}
	log, err := readUserspaceLog(in.Log)
	if err != nil {
		return err
	}
	if in.Until != "" {
		if log, err = log.Until(in.Until); err != nil {
			return fmt.Errorf("%s: %w", in.Log, err)
		}
	}
	if c.in.Phases == nil {
		c.out.Phases = log.Phases()
	}
	u.Earlier = log
	return c.verityWords(log)
}

func words(list []wordJSON) []tpm.Word {
	if list == nil {
		return nil
	}
	out := make([]tpm.Word, 0, len(list))
	for _, w := range list {
		out = append(out, tpm.Word(w))
	}
	return out
}

// verityWords are those of the NvPCR "verity", by the root hashes on the image's command line. In
// an earlier log stands for which volumes they are measured. What they are is not known if the
// command line is not, or names other volumes, and of another root hash than the earlier one if its
// signers are among the words.
func (c *composer) verityWords(earlier *tpm.UserspaceLog) error {
	const name = "verity"
	u := c.out.Userspace
	if _, given := u.NVWords[name]; given {
		return nil
	}
	initialised, before := false, []tpm.Word(nil)
	if earlier != nil {
		for _, n := range earlier.NVPCRs() {
			if n.Name == name {
				initialised, before = true, n.Words
			}
		}
	}
	for _, w := range u.NVPCRs {
		initialised = initialised || strings.HasPrefix(w, "nvpcr-init:"+name+":")
	}
	if !initialised || earlier != nil && len(before) == 0 {
		return nil
	}
	if u.NVWords == nil {
		u.NVWords = map[string][]tpm.Word{}
	}
	u.NVWords[name] = nil
	if c.out.Handover == nil || c.out.Handover.Unknown != "" {
		return nil
	}
	cmdline, err := dm.ParseCmdline(efi.DecodeUTF16(c.out.Handover.LoadOptions))
	if err != nil || cmdline.Disabled {
		return nil // systemd makes no volume of it
	}
	hashes, signed := map[string][]byte{}, false
	for volume, v := range map[string]dm.Volume{"root": cmdline.Root, "usr": cmdline.Usr} {
		if v.RootHash != nil {
			hashes[volume] = v.RootHash
			signed = signed || v.Options.RootHashSignature != ""
		}
	}
	if earlier == nil {
		if len(hashes) == 1 && !signed {
			for volume, hash := range hashes {
				u.NVWords[name] = []tpm.Word{{Text: tpm.VerityWord(volume, hash)}}
			}
		}
		return nil
	}
	list := []tpm.Word{}
	for _, w := range before {
		if fields := strings.SplitN(w.Text, ":", 4); len(fields) == 4 && (fields[1] == "root" || fields[1] == "usr") {
			next := tpm.VerityWord(fields[1], hashes[fields[1]]) + fields[3]
			if hashes[fields[1]] == nil || next != w.Text && (fields[3] != "" || signed) {
				return nil
			}
			delete(hashes, fields[1])
			w = tpm.Word{Text: next}
		}
		list = append(list, w)
	}
	if len(hashes) == 0 {
		u.NVWords[name] = list
	}
	return nil
}

// nvpcr is an NvPCR in the objects of log and predict.
type nvpcr struct {
	Name  string `json:"name"`
	Index string `json:"index,omitempty"` // "0x1d10202"; left out: not known
	Bank  string `json:"bank,omitempty"`
	Value string `json:"value,omitempty"` // left out: not known
	// that it is extended with; null: not known; []: initialised and nothing more
	Words []nvWord `json:"words"`
	Note  string   `json:"note,omitempty"` // why there is no value
}

type nvWord struct {
	Word string `json:"word"`
	// as the log has them, by bank; left out: those of the word
	Digests map[string]string `json:"digests,omitempty"`
}

// describeNVPCRs lists NvPCRs, and writes them for people.
func describeNVPCRs(list []tpm.NVPCR) (out []nvpcr, text string) {
	out = []nvpcr{}
	var b strings.Builder
	for _, n := range list {
		d := nvpcr{Name: n.Name}
		if n.Index != 0 {
			d.Index = fmt.Sprintf("%#x", n.Index)
		}
		bank, ok := n.Bank()
		if !ok {
			bank = crypto.SHA256
		}
		fmt.Fprintf(&b, "NvPCR %s", strings.TrimSpace(printable(n.Name)+" "+d.Index))
		value, err := n.Value(bank, nil)
		if err != nil {
			d.Note = err.Error()
			fmt.Fprintf(&b, ": not predicted: %v", err)
		} else {
			d.Bank, d.Value = tpm.BankName(bank), hex.EncodeToString(value)
			fmt.Fprintf(&b, ": %s %s", d.Bank, d.Value)
		}
		if n.Words != nil {
			d.Words = []nvWord{}
		}
		if n.Words != nil && len(n.Words) == 0 {
			b.WriteString(", initialised and nothing more")
		}
		b.WriteByte('\n')
		for _, w := range n.Words {
			d.Words = append(d.Words, nvWord{w.Text, hexes(w.Digests)})
			fmt.Fprintf(&b, "  extended with %s", printable(w.Text))
			if digest := w.Digests[bank]; len(digest) > 8 {
				fmt.Fprintf(&b, " (%x…)", digest[:8])
			}
			b.WriteByte('\n')
		}
		out = append(out, d)
	}
	return out, b.String()
}

// printable keeps what a log says on its line.
func printable(s string) string {
	q := fmt.Sprintf("%q", s)
	return q[1 : len(q)-1]
}
