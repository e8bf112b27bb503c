package bootloader

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
)

func TestDefault(t *testing.T) {
	files := func(config string) fstest.MapFS {
		return fstest.MapFS{"EFI/Linux/os_1.efi": release("1"), "EFI/Linux/os_2.efi": release("2"), "EFI/Linux/os_3+0-3.efi": release("3"),
			"EFI/Linux/OS_4+0-1.efi": release("4"), "loader/loader.conf": text(config)}
	}
	for name, c := range map[string]struct {
		config string
		v      Variables
		id     string
		reason Reason
	}{
		"order":                     {"", Variables{}, "os_2.efi", ReasonOrder},
		"one-shot":                  {"default os_2.efi", Variables{EntryOneShot: "OS_1.EFI", EntryDefault: "os_2.efi"}, "os_1.efi", ReasonOneShot},
		"one-shot boots bad":        {"", Variables{EntryOneShot: "os_3.efi"}, "os_3.efi", ReasonOneShot},
		"unknown one-shot":          {"", Variables{EntryOneShot: "os_9.efi"}, "os_2.efi", ReasonOrder},
		"preferred skips bad":       {"", Variables{EntryPreferred: "os_[13].efi"}, "os_1.efi", ReasonPreferred},
		"preferred that is bad":     {"", Variables{EntryPreferred: "os_3.efi"}, "os_2.efi", ReasonOrder},
		"@saved that is bad":        {"", Variables{EntryPreferred: "@saved", EntryLastBooted: "os_3.efi"}, "os_2.efi", ReasonOrder},
		"config's that is bad":      {"preferred os_3.efi\ndefault os_1.efi\n", Variables{}, "os_1.efi", ReasonConfigDefault},
		"preferred before default":  {"", Variables{EntryPreferred: "os_1*", EntryDefault: "os_3*"}, "os_1.efi", ReasonPreferred},
		"config preferred":          {"preferred os_1*\ndefault os_3*\n", Variables{EntryDefault: "os_3*"}, "os_1.efi", ReasonConfigPreferred},
		"default boots bad":         {"", Variables{EntryDefault: "os_3*"}, "os_3.efi", ReasonDefault},
		"variable before config":    {"default os_2.efi\n", Variables{EntryDefault: "os_1.efi"}, "os_1.efi", ReasonDefault},
		"config":                    {"default os_1*\n", Variables{}, "os_1.efi", ReasonConfigDefault},
		"saved":                     {"default @saved\n", Variables{EntryLastBooted: "os_1.efi"}, "os_1.efi", ReasonConfigDefault},
		"saved in capitals":         {"default @saved\n", Variables{EntryLastBooted: "OS_1.efi"}, "os_2.efi", ReasonOrder},
		"saved, nothing booted":     {"default @saved\n", Variables{}, "os_2.efi", ReasonOrder},
		"saved by variable":         {"", Variables{EntryDefault: "@Saved", EntryLastBooted: "os_1.efi"}, "os_1.efi", ReasonDefault},
		"last booted alone":         {"", Variables{EntryLastBooted: "os_1.efi"}, "os_2.efi", ReasonOrder},
		"firmware failed":           {"", Variables{FirmwareFailed: true, EntrySysFail: "os_1.efi", EntryOneShot: "os_2.efi"}, "os_1.efi", ReasonSysFail},
		"firmware did not fail":     {"", Variables{EntrySysFail: "os_1.efi"}, "os_2.efi", ReasonOrder},
		"capitals of counted names": {"", Variables{EntryDefault: "OS_4.efi"}, "os_2.efi", ReasonOrder},
	} {
		t.Run(name, func(t *testing.T) {
			m := readMenu(t, files(c.config), MenuOptions{})
			e, reason := m.Default(c.v)
			assert.Equal(t, c.id, e.ID)
			assert.Equal(t, c.reason, reason)
		})
	}
	// A UKI whose first profile has no name has entries for the others only.
	m := readMenu(t, fstest.MapFS{"EFI/Linux/os.efi": ukiFile(".linux", "k", ".profile", "ID=a\n", ".profile", "ID=b\n", ".osrel", "ID=os\nNAME=x\n")}, MenuOptions{})
	e, reason := m.Default(Variables{})
	assert.Equal(t, "os.efi@b", e.ID)
	assert.Equal(t, ReasonOrder, reason)
	assert.True(t, ReasonDefault.Pinned())
	assert.False(t, ReasonPreferred.Pinned())
	assert.False(t, ReasonOrder.Pinned())
}

// Three boots that are not marked good use up an entry; then the one before is back.
func TestFallback(t *testing.T) {
	esp := fstest.MapFS{"EFI/Linux/os_1.efi": release("1"), "EFI/Linux/os_2+3.efi": release("2")}
	var booted []string
	for range 5 {
		e, _ := readMenu(t, esp, MenuOptions{}).Default(Variables{})
		from, to := e.Boot()
		booted = append(booted, to)
		f := esp[from]
		delete(esp, from)
		esp[to] = f
	}
	assert.Equal(t, []string{"EFI/Linux/os_2+2-1.efi", "EFI/Linux/os_2+1-2.efi", "EFI/Linux/os_2+0-3.efi", "EFI/Linux/os_1.efi", "EFI/Linux/os_1.efi"}, booted)
}

func TestEntryRenames(t *testing.T) {
	for name, want := range map[string][3]string{
		"os.efi":       {"os.efi", "os.efi", "os.efi"},
		"os+3.efi":     {"os+2-1.efi", "os.efi", "os+0.efi"},
		"os+2-1.efi":   {"os+1-2.efi", "os.efi", "os+0-1.efi"},
		"os+10.efi":    {"os+9-1.efi", "os.efi", "os+00.efi"},
		"os+0-3.efi":   {"os+0-4.efi", "os.efi", "os+0-3.efi"},
		"os+03-00.efi": {"os+2-1.efi", "os.efi", "os+00-00.efi"},
	} {
		m := readMenu(t, fstest.MapFS{"EFI/Linux/" + name: release("1")}, MenuOptions{})
		e := m.Entries[0]
		for i, f := range []func() (string, string){e.Boot, e.Good, e.MarkBad} {
			from, to := f()
			assert.Equal(t, "EFI/Linux/"+name, from)
			assert.Equal(t, "EFI/Linux/"+want[i], to, name)
		}
	}
	// Programs and URLs are not counted down.
	m := readMenu(t, fstest.MapFS{"loader/entries/a+3.conf": text("efi /k"), "k": text("")}, MenuOptions{})
	from, to := m.Entries[0].Boot()
	assert.Equal(t, from, to)
}

func TestStarted(t *testing.T) {
	one := &Entry{ID: "os_1.efi"}
	for name, c := range map[string]struct {
		config string
		before Variables
		after  Variables
	}{
		"nothing":                      {"", Variables{}, Variables{}},
		"one-shot is used up":          {"", Variables{EntryOneShot: "os_1.efi", EntryPreferred: "os*"}, Variables{EntryPreferred: "os*"}},
		"not asked for, taken away":    {"", Variables{EntryLastBooted: "os_2.efi", EntryDefault: "os_2*"}, Variables{EntryDefault: "os_2*"}},
		"saved by variable":            {"", Variables{EntryDefault: "@Saved"}, Variables{EntryDefault: "@Saved", EntryLastBooted: "os_1.efi"}},
		"saved by config":              {"default @saved\n", Variables{EntryLastBooted: "os_2.efi"}, Variables{EntryLastBooted: "os_1.efi"}},
		"the variable counts":          {"default @saved\n", Variables{EntryDefault: "os_2*"}, Variables{EntryDefault: "os_2*"}},
		"named for once is not saved":  {"default @saved\n", Variables{EntryOneShot: "OS_1.efi", EntryLastBooted: "os_2.efi"}, Variables{EntryLastBooted: "os_2.efi"}},
		"matched for once is saved":    {"default @saved\n", Variables{EntryOneShot: "os_1*", EntryLastBooted: "os_2.efi"}, Variables{EntryLastBooted: "os_1.efi"}},
		"preferred asks for no saving": {"", Variables{EntryPreferred: "@saved", EntryLastBooted: "os_2.efi"}, Variables{EntryPreferred: "@saved"}},
	} {
		m := &Menu{Config: ParseConfig([]byte(c.config))}
		assert.Equal(t, c.after, m.Started(c.before, one), name)
	}
}
