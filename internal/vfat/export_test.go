package vfat

import "io/fs"

// ReadBack reads a file as the model finds it.
func ReadBack(v *Volume, name string) ([]byte, error) {
	p, err := v.existing(name)
	if err != nil {
		return nil, err
	}
	if p.entry.isDir() {
		return nil, fs.ErrInvalid
	}
	clusters, err := v.table().chain(p.entry.start(), int(v.clusters))
	if err != nil {
		return nil, err
	}
	var all []byte
	for _, n := range clusters {
		b, err := v.read(v.offset(n), v.cluster)
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return all[:p.entry.size()], nil
}
