package upgrade

import (
	"context"
	"errors"
)

// ErrNoLoader says that the boot loader of the release is to be installed, but the release has
// none.
var ErrNoLoader = errors.New("the release has no boot loader, and none was given instead: pack the release with a boot loader")

// planLoader plans the boot loader that comes with the set. What follows is planned on a copy of
// the disk on which that has been carried out, for the machine as it is then: with another shim.
func (p *Plan) planLoader(ctx context.Context, o PlanOptions) error {
	in := *o.Loader
	if in.Loader == nil {
		if in.Loader = p.release.Loader; in.Loader == nil {
			return ErrNoLoader
		}
	}
	options := o.LoaderOptions
	options.Override = o.Override
	loader, err := NewLoaderPlan(ctx, p.disk, &in, p.machine, options)
	if err != nil {
		return err
	}
	if p.Loader = loader; loader.after == nil || len(loader.Changes) == 0 {
		return nil // it says itself why it is refused
	}
	p.disk = checked(loader.copied)
	p.machine.Shim, p.machine.NoShim = loader.after.machine.Shim, loader.after.machine.NoShim
	return nil
}
