package build

import (
	"slices"
	"strings"

	"github.com/osmith-dev/osmith/partition"
)

// The extended attributes of the root of a file system by which systemd-validatefs@.service refuses
// to mount it from another partition, or at another place (systemd-validatefs@.service(8)). Each is
// a list of texts with a zero byte behind each.
const (
	validateLabel = "user.validatefs.gpt_label"
	validateType  = "user.validatefs.gpt_type_uuid"
	validatePlace = "user.validatefs.mount_point"
)

// validation is what AddValidateFS= asks for: the name and the type of the partition, and of those
// with hash tree and signature, and the places where it may be mounted.
func (b *diskBuilder) validation(i int, fill *partition.FileSystemFill) map[string][]byte {
	if fill.ValidateFS == nil || !*fill.ValidateFS {
		return nil
	}
	names := b.layout.Names()
	var labels, types []string
	verity := b.layout.Partitions[i].Fill.Verity
	for k := range b.layout.Partitions {
		s := &b.layout.Partitions[k]
		sameVolume := verity != nil && s.Fill != nil && s.Fill.Verity != nil && s.Fill.Verity.MatchKey == verity.MatchKey
		if k == i || sameVolume {
			labels = append(labels, names[k])
			types = append(types, s.Type.String())
		}
	}
	all := map[string][]byte{validateLabel: textList(sortedOnce(labels)), validateType: textList(sortedOnce(types))}
	places := fill.MountPoints
	if len(places) == 0 {
		places = usualPlaces(partition.TypeName(b.layout.Partitions[i].Type))
	}
	if len(places) > 0 {
		all[validatePlace] = textList(places)
	}
	return all
}

// usualPlaces are where partitions of a type are mounted without configuration (Discoverable
// Partitions Specification, "Defined Partition Type UUIDs").
func usualPlaces(typeName string) []string {
	switch designator, _, _ := strings.Cut(typeName, "-"); designator {
	case "root":
		return []string{"/"}
	case "usr", "home", "srv", "var":
		return []string{"/" + designator}
	case "tmp":
		return []string{"/var/tmp"}
	case "xbootldr":
		return []string{"/boot"}
	}
	return nil
}

func sortedOnce(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

func textList(list []string) (b []byte) {
	for _, s := range list {
		b = append(append(b, s...), 0)
	}
	return b
}
