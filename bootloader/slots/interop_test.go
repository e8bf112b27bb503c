package slots_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader/slots"
	"github.com/osmith-dev/osmith/internal/testtools"
	"github.com/osmith-dev/osmith/partition"
)

// states is how many random states a tool judges.
func states(t *testing.T, n int) (int, *rand.Rand) {
	t.Helper()
	r, long := testtools.Seed(t)
	if long {
		return n, r
	}
	return n / 3, r
}

func save(t *testing.T, name string, b []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, b, 0o600))
}

func load(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return b
}

// onDisk changes the partition table of a disk as a change asks for.
func onDisk(t *testing.T, disk string, c *slots.Change) {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	d, err := osmith.NewDevice(f)
	require.NoError(t, err)
	writeAttributes(t, d, c.Writes)
}

// writeAttributes makes writes in one update of a partition table.
func writeAttributes(t *testing.T, d osmith.Disk, writes []slots.Write) {
	t.Helper()
	table, err := partition.Read(d, partition.ReadOptions{SectorSize: 512})
	require.NoError(t, err)
	for _, w := range writes {
		for i := range table.Partitions {
			if p := &table.Partitions[i]; p.Number == w.Number {
				require.Equal(t, binary.LittleEndian.Uint64(w.Before), p.Attributes)
				p.Attributes = binary.LittleEndian.Uint64(w.After)
			}
		}
	}
	require.NoError(t, table.Write(d))
}

// diskSlots are the slots of a disk.
func diskSlots(t *testing.T, disk string, profile slots.GPTProfile) *slots.GPTPrio {
	t.Helper()
	d, err := osmith.OpenFile(disk)
	require.NoError(t, err)
	defer d.Close()
	return storeOf(t, d, profile)
}

// cgpt of ChromeOS reads the bits that are written here, and writes bits that are read here.
func TestCgpt(t *testing.T) {
	n, r := states(t, 60)
	disk := filepath.Join(t.TempDir(), "disk")
	save(t, disk, make([]byte, 4<<20))
	cgpt := func(args ...string) string { return strings.TrimSpace(testtools.Run(t, "cgpt", append(args, disk)...)) }
	cgpt("create")
	for i := range 3 {
		cgpt("add", "-i", strconv.Itoa(2+2*i), "-b", strconv.Itoa(100+100*i), "-s", "100", "-t", "kernel", "-l", "KERN-"+string(rune('A'+i)))
	}
	cgpt("add", "-i", "1", "-b", "1000", "-s", "100", "-t", "data")
	for range n {
		for i := 2; i <= 6; i += 2 {
			priority, tries, successful := r.IntN(16), r.IntN(16), r.IntN(2)
			// bits 57 to 63, bit 57 of Bottlerocket among them
			cgpt("add", "-i", strconv.Itoa(i), "-A", strconv.Itoa(r.IntN(1<<7)<<9))
			cgpt("add", "-i", strconv.Itoa(i), "-P", strconv.Itoa(priority), "-T", strconv.Itoa(tries), "-S", strconv.Itoa(successful))
			g := diskSlots(t, disk, slots.GPTChromeOS)
			require.Len(t, g.Slots(), 3)
			a := g.Partitions()[i-1-(i-2)/2].Attributes
			require.Equal(t, []any{priority, tries, successful == 1}, []any{a.Priority(), a.Tries(), a.Successful()})
		}
		cgpt("add", "-i", "2", "-P", strconv.Itoa(1+r.IntN(15)), "-S", "1")
		cgpt("add", "-i", "4", "-S", "1")
		mark := slots.Mark{Slot: "4", As: []slots.As{slots.AsTrying, slots.AsGood, slots.AsBad, slots.AsCancelled}[r.IntN(4)], Tries: 1 + r.IntN(15), Fallback: "2"}
		cgpt("add", "-i", "6", "-P", "0")
		c, err := diskSlots(t, disk, slots.GPTChromeOS).Mark(mark)
		require.NoError(t, err)
		onDisk(t, disk, c)
		require.Equal(t, c.After, slots.Store(diskSlots(t, disk, slots.GPTChromeOS)))
		for _, p := range c.After.(*slots.GPTPrio).Partitions() {
			if p.Type != slots.GPTChromeOS.SlotType() {
				continue
			}
			show := func(flag string) string { return cgpt("show", "-i", strconv.Itoa(p.Number), flag) }
			successful := 0
			if p.Attributes.Successful() {
				successful = 1
			}
			require.Equal(t, []string{strconv.Itoa(p.Attributes.Priority()), strconv.Itoa(p.Attributes.Tries()), strconv.Itoa(successful)},
				[]string{show("-P"), show("-T"), show("-S")}, "%+v", mark)
			raw, err := strconv.ParseUint(show("-A"), 0, 16)
			require.NoError(t, err)
			require.Equal(t, uint64(p.Attributes)>>48, raw)
		}
	}
	require.NotContains(t, cgpt("show", "-v"), "INVALID")
}

// grub-editenv reads the blocks that are written here, and what it writes is read here and written
// again byte by byte.
func TestGRUBEditenv(t *testing.T) {
	n, r := states(t, 60)
	block := filepath.Join(t.TempDir(), "grubenv")
	testtools.Run(t, "grub-editenv", block, "create")
	created, err := slots.NewGRUBEnvironment().MarshalBinary()
	require.NoError(t, err)
	require.Equal(t, load(t, block), created)
	names := []string{"ORDER", "A_OK", "saved_entry", "x", "odd.name", "boot_success"}
	values := []string{"", "0", "A B", `back\slash`, "two\nlines", "a=b", `\`, "#", "\n", "ü", "  ", strings.Repeat("long ", 12)}
	for range n {
		ours := slots.Variable{Name: names[r.IntN(len(names))], Value: values[r.IntN(len(values))]}
		env, err := slots.ParseGRUBEnvironment(load(t, block))
		require.NoError(t, err)
		kept, err := env.MarshalBinary()
		require.NoError(t, err)
		require.Equal(t, load(t, block), kept)
		// The same variable by both tools is the same block.
		theirs := block + ".theirs"
		save(t, theirs, kept)
		after, writes, _, err := env.Set(ours)
		require.NoError(t, err)
		testtools.Run(t, "grub-editenv", theirs, "set", ours.Name+"="+ours.Value)
		b, err := after.MarshalBinary()
		require.NoError(t, err)
		require.Equal(t, string(load(t, theirs)), string(b))
		m := medium{"environment block": kept}
		for _, w := range writes {
			m = m.with(w, w.After)
		}
		require.Equal(t, b, m["environment block"])
		save(t, block, b)
		list := ""
		for _, v := range after.Variables() {
			list += v.Name + "=" + v.Value + "\n"
		}
		require.Equal(t, testtools.Output(t, "grub-editenv", block, "list"), list)
		if r.IntN(3) == 0 {
			testtools.Run(t, "grub-editenv", block, "unset", names[r.IntN(len(names))])
		}
	}
}

// fw_setenv and fw_printenv of libubootenv read the copies that are written here, and write copies
// that are read here.
func TestFwSetenv(t *testing.T) {
	n, r := states(t, 60)
	for _, copies := range []int{1, 2} {
		dir := t.TempDir()
		config := filepath.Join(dir, "fw_env.config")
		options := slots.UBootOptions{}
		lines := ""
		read := func() (all [][]byte) {
			for i := range copies {
				all = append(all, load(t, filepath.Join(dir, strconv.Itoa(i))))
			}
			return all
		}
		for i := range copies {
			lines += fmt.Sprintf("%s/%d 0x0 0x1000\n", dir, i)
			save(t, filepath.Join(dir, strconv.Itoa(i)), ubootCopy(0x1000, copies == 2, 0, "bootcmd=run x"))
		}
		if copies == 2 {
			options.Scheme = slots.UBootSerial
		}
		save(t, config, []byte(lines))
		values := []string{"1", "A B", "B A", "long " + strings.Repeat("value ", 30), "a=b", "ü"}
		for i := range n {
			v := slots.Variable{Name: "v" + strconv.Itoa(r.IntN(5)), Value: values[r.IntN(len(values))]}
			env, err := slots.ParseUBootEnvironment(options, read()...)
			require.NoError(t, err)
			require.Equal(t, read(), env.Copies())
			if i%2 == 0 {
				testtools.Run(t, "fw_setenv", "-c", config, v.Name, v.Value)
			} else {
				_, writes, _, err := env.Set(v)
				require.NoError(t, err)
				for _, w := range writes {
					b := read()[w.Number-1]
					copy(b[w.Offset:], w.After)
					save(t, filepath.Join(dir, strconv.Itoa(w.Number-1)), b)
				}
			}
			after, err := slots.ParseUBootEnvironment(options, read()...)
			require.NoError(t, err)
			got, ok := after.Get(v.Name)
			require.True(t, ok)
			require.Equal(t, v.Value, got)
			// fw_printenv sorts by name.
			theirs := testtools.Output(t, "fw_printenv", "-c", config)
			require.Equal(t, len(after.Variables()), strings.Count(theirs, "\n"))
			for _, v := range after.Variables() {
				require.Contains(t, "\n"+theirs, "\n"+v.Name+"="+v.Value+"\n")
			}
		}
	}
}

// fw_printenv takes the copy that is marked as active. That it writes so itself needs NOR flash,
// and was not seen.
func TestFwPrintenvOfActiveCopies(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "fw_env.config")
	save(t, config, []byte(fmt.Sprintf("%s/1 0x0 0x800\n%s/2 0x0 0x800\n", dir, dir)))
	env, err := slots.ParseUBootEnvironment(slots.UBootOptions{Scheme: slots.UBootActive}, ubootCopy(0x800, true, 0, "v=0"), ubootCopy(0x800, true, 1, "v=0"))
	require.NoError(t, err)
	for i := range 4 {
		value := strconv.Itoa(i)
		env, _, _, err = env.Set(slots.Variable{Name: "v", Value: value}, slots.Variable{Name: "w", Value: value})
		require.NoError(t, err)
		for i, c := range env.Copies() {
			save(t, filepath.Join(dir, strconv.Itoa(i+1)), c)
		}
		require.Equal(t, "v="+value+"\nw="+value+"\n", testtools.Output(t, "fw_printenv", "-c", config))
	}
}

// Which of two copies is the newer one, whatever their counters are.
func TestFwPrintenvChooses(t *testing.T) {
	n, r := states(t, 150)
	dir := t.TempDir()
	config := filepath.Join(dir, "fw_env.config")
	save(t, config, []byte(fmt.Sprintf("%s/1 0x0 0x800\n%s/2 0x0 0x800\n", dir, dir)))
	pairs := [][2]byte{{0, 0}, {0, 1}, {1, 0}, {255, 0}, {0, 255}, {254, 255}, {255, 254}, {254, 0}, {0, 254}, {255, 1}, {128, 127}, {127, 128}}
	for range n {
		pairs = append(pairs, [2]byte{byte(r.IntN(256)), byte(r.IntN(256))})
	}
	for _, p := range pairs {
		copies := [][]byte{ubootCopy(0x800, true, p[0], "v=1"), ubootCopy(0x800, true, p[1], "v=2")}
		for i, c := range copies {
			save(t, filepath.Join(dir, strconv.Itoa(i+1)), c)
		}
		env, err := slots.ParseUBootEnvironment(slots.UBootOptions{Scheme: slots.UBootSerial}, copies...)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("v=%d\n", env.Active()), testtools.Output(t, "fw_printenv", "-c", config), "%d", p)
	}
}

// mkenvimage of U-Boot makes images, of both orders of bytes, which are read here and encoded to
// the same bytes.
func TestMkenvimage(t *testing.T) {
	dir := t.TempDir()
	text, image := filepath.Join(dir, "text"), filepath.Join(dir, "image")
	save(t, text, []byte("BOOT_ORDER=A B\nBOOT_A_LEFT=3\nBOOT_B_LEFT=0\n"))
	for _, flags := range [][]string{nil, {"-r"}, {"-b"}, {"-r", "-b", "-p", "0"}} {
		testtools.Run(t, "mkenvimage", append(flags, "-s", "0x800", "-o", image, text)...)
		options := slots.UBootOptions{BigEndian: strings.Contains(strings.Join(flags, " "), "-b")}
		copies := [][]byte{load(t, image)}
		if strings.Contains(strings.Join(flags, " "), "-r") {
			options.Scheme, copies = slots.UBootSerial, [][]byte{copies[0], copies[0]}
		}
		env, err := slots.ParseUBootEnvironment(options, copies...)
		require.NoError(t, err)
		require.Equal(t, copies, env.Copies())
		require.Equal(t, []slots.Variable{{Name: "BOOT_ORDER", Value: "A B"}, {Name: "BOOT_A_LEFT", Value: "3"}, {Name: "BOOT_B_LEFT", Value: "0"}}, env.Variables())
		// What is set here is what mkenvimage makes of the same text, but for the byte that says
		// which copy is newer.
		save(t, text, []byte("BOOT_ORDER=B\nBOOT_A_LEFT=3\nBOOT_B_LEFT=0\n"))
		testtools.Run(t, "mkenvimage", append(flags, "-s", "0x800", "-o", image, text)...)
		_, writes, _, err := env.Set(slots.Variable{Name: "BOOT_ORDER", Value: "B"})
		require.NoError(t, err)
		want := load(t, image)
		if options.Scheme != slots.UBootSingle {
			want[4]++
		}
		require.Equal(t, want, writes[0].After)
		save(t, text, []byte("BOOT_ORDER=A B\nBOOT_A_LEFT=3\nBOOT_B_LEFT=0\n"))
	}
}

// efibootmgr reads the variables that are written here, and writes BootOrder and BootNext that are
// read here.
func TestEfibootmgr(t *testing.T) {
	n, r := states(t, 30)
	root, dir := testtools.Forky(t), t.TempDir()
	const vendor = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	file := func(name string) string { return filepath.Join(dir, name+vendor) }
	write := func(name string, content []byte) {
		if content == nil {
			require.NoError(t, os.Remove(file(name)))
			return
		}
		save(t, file(name), append([]byte{7, 0, 0, 0}, content...))
	}
	content := func(name string) []byte {
		b, err := os.ReadFile(file(name))
		if os.IsNotExist(err) {
			return nil
		}
		require.NoError(t, err)
		return b[4:]
	}
	// Active, with the description "x" and an empty device path.
	for _, name := range []string{"Boot0003", "Boot00AB", "Boot0009"} {
		write(name, []byte{1, 0, 0, 0, 4, 0, 'x', 0, 0, 0, 0x7f, 0xff, 4, 0})
	}
	write("BootOrder", []byte{3, 0, 0xab, 0, 9, 0})
	efibootmgr := func(args ...string) string {
		return root.Run(t, dir, "env", append([]string{"EFIVARFS_PATH=" + dir + "/", "efibootmgr"}, args...)...)
	}
	store := func() *slots.BootOrder {
		b, err := slots.NewBootOrder(slots.BootVariables{BootOrder: content("BootOrder"), BootNext: content("BootNext"),
			Active: map[uint16]bool{3: true, 0xab: true, 9: true}}, 3, 0xab)
		require.NoError(t, err)
		return b
	}
	for range n {
		mark := slots.Mark{Slot: "Boot0003", As: slots.AsGood}
		if r.IntN(3) > 0 {
			mark.Slot = "Boot00AB"
		}
		c, err := store().Mark(mark)
		require.NoError(t, err)
		for _, w := range c.Writes {
			write(w.Object, w.After)
		}
		other := map[string]string{"Boot0003": "Boot00AB", "Boot00AB": "Boot0003"}[mark.Slot]
		if c, err = store().Mark(slots.Mark{Slot: other, As: slots.AsTrying, Tries: 1, Fallback: mark.Slot}); err != nil {
			require.ErrorIs(t, err, slots.ErrNoFallback)
			continue
		}
		for _, w := range c.Writes {
			write(w.Object, w.After)
		}
		order := map[string]string{"Boot0003": "0003,0009,00AB", "Boot00AB": "00AB,0009,0003"}[mark.Slot]
		out := efibootmgr()
		require.Contains(t, out, "BootNext: "+strings.TrimPrefix(other, "Boot")+"\n")
		require.Contains(t, out, "BootOrder: "+order+"\n")
		efibootmgr("-n", strings.TrimPrefix(mark.Slot, "Boot"))
		require.Equal(t, mark.Slot, slots.Predict(store()).Starts[0].Slot)
		efibootmgr("-o", "0003,00AB,0009")
		require.Equal(t, []byte{3, 0, 0xab, 0, 9, 0}, store().Variables().BootOrder)
		write("BootNext", nil)
	}
}

// raucSession runs the service of RAUC on a bus of its own. $1 is the directory, $2 the number of
// states in it. Each is judged as it is, and then after a mark of RAUC's.
const raucSession = `set -e
cd "$1"
export DBUS_STARTER_BUS_TYPE=session PATH="$1/bin:$PATH"
cp 0/* .
rauc -c "$1/system.conf" --override-boot-slot=A service 2>service.log &
service=$!
trap 'kill $service' EXIT
for try in $(seq 100); do rauc status >/dev/null 2>&1 && break; sleep 0.1; done
i=0
while [ $i -lt "$2" ]; do
	cp $i/* .
	rauc status --output-format=json >$i.json
	rauc status $(cat $i.mark) >/dev/null
	mkdir $i.after
	for f in $i/*; do cp "${f#*/}" $i.after/; done
	i=$((i + 1))
done
`

// rauc reads the states that are written here, and its marks are what is written here for the same.
func TestRauc(t *testing.T) {
	n, r := states(t, 24)
	for _, loader := range []string{"uboot", "grub"} {
		t.Run(loader, func(t *testing.T) {
			testtools.Require(t, "dbus-run-session")
			testtools.Require(t, "rauc")
			dir := t.TempDir()
			if len(dir) > 80 {
				t.Fatalf("%s is too long for a socket", dir)
			}
			raucFiles(t, dir, loader)
			type state struct {
				store slots.Store
				mark  slots.Mark
			}
			var all []state
			for i := range n {
				s := raucState(t, dir, loader, i, r)
				mark := slots.Mark{Slot: "B", As: slots.AsGood}
				words := "mark-active other"
				if r.IntN(2) == 0 {
					mark, words = slots.Mark{Slot: "B", As: slots.AsBad, Fallback: "A"}, "mark-bad other"
				}
				save(t, filepath.Join(dir, strconv.Itoa(i)+".mark"), []byte(words))
				all = append(all, state{s, mark})
			}
			testtools.Run(t, "dbus-run-session", "--", "sh", "-c", raucSession, "sh", dir, strconv.Itoa(n))
			for i, s := range all {
				var status struct {
					Primary string `json:"boot_primary"`
					Slots   []map[string]struct {
						Bootname string
						Status   string `json:"boot_status"`
					}
				}
				require.NoError(t, json.Unmarshal(bytes.TrimSpace(load(t, filepath.Join(dir, strconv.Itoa(i)+".json"))), &status))
				start := slots.Predict(s.store).Starts[0]
				want := start.Slot
				if !slices.ContainsFunc(s.store.Slots(), func(s slots.Slot) bool { return s.Bootable == slots.AnswerYes }) {
					// rauc names no slot; that the script gives each three starts then is not in
					// its state
					want = ""
				}
				require.Equal(t, map[string]string{"rootfs.0": "A", "rootfs.1": "B"}[status.Primary], want, "state %d: %v", i, start)
				for _, slot := range status.Slots {
					for _, theirs := range slot {
						ours := s.store.Slots()[int(theirs.Bootname[0]-'A')]
						if theirs.Status == "bad" {
							require.NotEqual(t, slots.AnswerYes, ours.Bootable, "state %d, slot %s", i, ours.Name)
						}
						if ours.Bootable == slots.AnswerYes {
							require.Equal(t, "good", theirs.Status, "state %d, slot %s", i, ours.Name)
						}
					}
				}
				c, err := s.store.Mark(s.mark)
				if err != nil {
					require.ErrorIs(t, err, slots.ErrNoFallback)
					continue
				}
				theirs := raucRead(t, filepath.Join(dir, strconv.Itoa(i)+".after"), loader)
				require.Equal(t, raucVariables(c.After), raucVariables(theirs), "state %d: %+v", i, s.mark)
			}
			status, err := slots.ParseRAUCStatus(load(t, filepath.Join(dir, "central.raucs")))
			require.NoError(t, err)
			require.Equal(t, "rootfs.1", status.Slots()[0].Name)
			require.Regexp(t, `^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$`, status.Slots()[0].Activated)
			require.NotEmpty(t, status.Slots()[0].ActivateCount)
		})
	}
}

func raucFiles(t *testing.T, dir, loader string) {
	t.Helper()
	config := fmt.Sprintf("[system]\ncompatible=test\nbootloader=%s\nstatusfile=%s/central.raucs\n", loader, dir)
	if loader == "grub" {
		config += "grubenv=" + dir + "/grubenv\n"
	}
	for i, name := range []string{"A", "B"} {
		config += fmt.Sprintf("[slot.rootfs.%d]\ndevice=%s/slot%d\ntype=raw\nbootname=%s\n", i, dir, i, name)
		save(t, filepath.Join(dir, fmt.Sprintf("slot%d", i)), make([]byte, 4096))
	}
	save(t, filepath.Join(dir, "system.conf"), []byte(config))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o700))
	if loader == "grub" {
		testtools.Require(t, "grub-editenv")
		return
	}
	save(t, filepath.Join(dir, "fw_env.config"), []byte(fmt.Sprintf("%s/copy1 0 0x400\n%s/copy2 0 0x400\n", dir, dir)))
	for _, tool := range []string{"fw_setenv", "fw_printenv"} {
		script := fmt.Sprintf("#!/bin/sh\nexec %s -c %s/fw_env.config \"$@\"\n", testtools.Require(t, tool), dir)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "bin", tool), []byte(script), 0o700))
	}
}

// raucState writes a random state, which was marked here.
func raucState(t *testing.T, dir, loader string, i int, r *rand.Rand) slots.Store {
	t.Helper()
	sub := filepath.Join(dir, strconv.Itoa(i))
	require.NoError(t, os.Mkdir(sub, 0o700))
	order := []string{"A B", "B A", "A", "B A"}[r.IntN(4)]
	digit := func(n int) string { return strconv.Itoa(r.IntN(n)) }
	if loader == "uboot" {
		save(t, filepath.Join(sub, "copy1"), ubootCopy(1024, true, byte(r.IntN(3)), "BOOT_ORDER="+order, "BOOT_A_LEFT="+digit(4), "BOOT_B_LEFT="+digit(4)))
		save(t, filepath.Join(sub, "copy2"), ubootCopy(1024, true, byte(3+r.IntN(3)), "BOOT_ORDER="+order, "BOOT_A_LEFT="+digit(4), "BOOT_B_LEFT="+digit(4)))
	} else {
		if order == "A" {
			order = "A B" // rauc has all slots in ORDER
		}
		save(t, filepath.Join(sub, "grubenv"), grubBlock(r.IntN(100), "ORDER="+order, "A_OK="+digit(2), "A_TRY=0", "B_OK="+digit(2), "B_TRY="+digit(2)))
	}
	s := raucRead(t, sub, loader)
	for _, mark := range []slots.Mark{{Slot: "A", As: slots.AsGood}, {Slot: "B", As: slots.AsTrying, Tries: 1, Fallback: "A"}} {
		if r.IntN(2) == 0 && i > 0 {
			break
		}
		c, err := s.Mark(mark)
		require.NoError(t, err)
		m := medium{"environment block": nil}
		for name, object := range map[string]string{"copy1": "copy 1", "copy2": "copy 2", "grubenv": "environment block"} {
			if b, err := os.ReadFile(filepath.Join(sub, name)); err == nil {
				m[object] = b
			}
		}
		for _, w := range c.Writes {
			m = m.with(w, w.After)
		}
		for name, object := range map[string]string{"copy1": "copy 1", "copy2": "copy 2", "grubenv": "environment block"} {
			if m[object] != nil {
				save(t, filepath.Join(sub, name), m[object])
			}
		}
		s = c.After
	}
	return s
}

func raucRead(t *testing.T, dir, loader string) slots.Store {
	t.Helper()
	o := slots.RAUCOptions{Script: slots.AnswerYes}
	if loader == "grub" {
		env, err := slots.ParseGRUBEnvironment(load(t, filepath.Join(dir, "grubenv")))
		require.NoError(t, err)
		s, err := slots.NewRAUCGRUB(env, []string{"A", "B"}, o)
		require.NoError(t, err)
		return s
	}
	env, err := slots.ParseUBootEnvironment(slots.UBootOptions{Scheme: slots.UBootSerial}, load(t, filepath.Join(dir, "copy1")), load(t, filepath.Join(dir, "copy2")))
	require.NoError(t, err)
	s, err := slots.NewRAUCUBoot(env, []string{"A", "B"}, o)
	require.NoError(t, err)
	return s
}

// raucVariables are the variables of a state, whatever their order. In ORDER of GRUB, what comes
// behind the first slot is left out: rauc leaves a bad slot where it is.
func raucVariables(s slots.Store) map[string]string {
	m := map[string]string{}
	var all []slots.Variable
	switch s := s.(type) {
	case *slots.RAUCUBoot:
		all = s.Environment().Variables()
	case *slots.RAUCGRUB:
		all = s.Environment().Variables()
	}
	for _, v := range all {
		if v.Name != "ORDER" {
			m[v.Name] = v.Value
		}
	}
	return m
}
