// Package devmapper makes and removes devices of the Linux device-mapper through
// its ioctls (include/uapi/linux/dm-ioctl.h, version 4), without libdevmapper and
// without dmsetup. There is nothing in it for other systems.
//
// It does not wait for udev. The node /dev/dm-N is the kernel's own and is there
// when Create returns; a link in /dev/mapper is made by udev, later, if it runs.
package devmapper
