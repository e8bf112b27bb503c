package fec

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/osmith-dev/osmith/verity"
)

// What is not given is an error that names it; a hash area of nil is an empty one.
func TestNothingGiven(t *testing.T) {
	ctx := context.Background()
	data := noise(rand.New(rand.NewPCG(1, 1)), 4096)
	assert.EqualError(t, Encode(ctx, nil, data, nil, Params{}), "fec: writer for the parity: not given")
	assert.EqualError(t, Encode(ctx, data, nil, nil, Params{}), "fec: data: not given")
	assert.EqualError(t, Check(ctx, nil, nil, data, Params{}), "fec: data: not given")
	assert.EqualError(t, Check(ctx, data, nil, nil, Params{}), "fec: parity: not given")
	_, err := HashArea(nil, verity.Params{})
	assert.EqualError(t, err, "fec: hash device: not given")
	_, err = Repair(ctx, Image{Parity: data}, nil, nil)
	assert.EqualError(t, err, "fec: data: not given")
	_, err = Repair(ctx, Image{Data: data}, nil, nil)
	assert.EqualError(t, err, "fec: parity: not given")
	_, err = Repair(ctx, Image{Data: data, Parity: data, RootHash: make([]byte, 32)}, nil, nil)
	assert.Error(t, err)
}
