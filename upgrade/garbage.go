package upgrade

// Garbage is a file on a boot partition that nothing starts, and nothing is known to need.
type Garbage struct {
	Path   string
	Size   int64 // bytes
	Reason string
}
