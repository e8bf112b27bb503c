package acmeos

import (
	"errors"
	"os"

	"github.com/osmith-dev/osmith"
)

// ErrPowerCut is what writes meet once the power is gone.
var ErrPowerCut = errors.New("the power is gone")

// ImageFile is a disk image as package upgrade wants a disk, with a plug to pull.
type ImageFile struct {
	*osmith.Device
	left int64 // bytes until the cut; negative: no cut
}

// CreateImage makes a sparse file of the size of the disk.
func CreateImage(name string, size int64) (*ImageFile, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return imageFile(f)
}

// OpenImage opens the image of a disk that is in no running machine.
func OpenImage(name string) (*ImageFile, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return imageFile(f)
}

func imageFile(f *os.File) (*ImageFile, error) {
	d, err := osmith.NewDevice(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &ImageFile{d, -1}, nil
}

// CutAfter pulls the plug when so many more bytes are written.
func (d *ImageFile) CutAfter(bytes int64) { d.left = bytes }

// Restore gives the power back.
func (d *ImageFile) Restore() { d.left = -1 }

// WriteAt writes until the power is cut, whole sectors up to there, and nothing afterwards.
func (d *ImageFile) WriteAt(b []byte, off int64) (int, error) {
	if d.left < 0 {
		return d.Device.WriteAt(b, off)
	}
	if int64(len(b)) <= d.left {
		d.left -= int64(len(b))
		return d.Device.WriteAt(b, off)
	}
	n, err := d.Device.WriteAt(b[:d.left/512*512], off)
	d.left = 0
	return n, errors.Join(ErrPowerCut, err)
}

// Sync makes what was written durable, as long as there is power.
func (d *ImageFile) Sync() error {
	if d.left == 0 {
		return ErrPowerCut
	}
	return d.Device.Sync()
}
