package verity

// Table returns the table for a tree that Format made with these parameters over so
// many bytes of data, with or without a superblock and at any offset.
func (p Params) Table(dataDevice, hashDevice string, dataSize int64, root []byte) (Table, error) {
	l, err := newLayout(p, dataSize)
	if err != nil {
		return Table{}, err
	}
	t := l.superblock(l.dataBlocks).Table(dataDevice, hashDevice, root)
	t.HashStart = l.tree / int64(l.HashBlockSize)
	if err := t.Check(); err != nil {
		return Table{}, err
	}
	return t, nil
}
