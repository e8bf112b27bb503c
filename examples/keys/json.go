package main

import (
	"github.com/osmith-dev/osmith/examples/internal/cli"
	"github.com/osmith-dev/osmith/signing/secureboot"
)

const schema = "osmith.keys/1"

// generateResult is the object of generate.
type generateResult struct {
	cli.Header
	Owner string               `json:"owner"`
	Keys  map[string]keyResult `json:"keys"`  // PK, KEK, db, PCR, verity
	Files []string             `json:"files"` // in the directory of -o
	Space int64                `json:"space"` // bytes of a variable store that the enrolment needs
}

type keyResult struct {
	Subject                string `json:"subject"`
	CertificateFingerprint string `json:"certificateFingerprint"` // SHA-256
}

// authResult is the object of auth.
type authResult struct {
	cli.Header
	Variable    string `json:"variable"`
	Append      bool   `json:"append"`
	Time        string `json:"time"`
	Signer      string `json:"signer"`
	PayloadSize int64  `json:"payloadSize"` // bytes of signature lists, 0 deletes
	Size        int64  `json:"size"`        // bytes written
}

// evaluateResult is the object of evaluate. The evaluation is an object of its own, with schema
// osmith.evaluation/1: allowed, images (name, now, after: each a verdict with reason, rule and, if
// it does not allow the image, remedy), pendingRefused, pendingUnknown, changed, warnings.
type evaluateResult struct {
	cli.Header
	SecureBoot bool                   `json:"secureBoot"`
	SetupMode  bool                   `json:"setupMode"`
	Evaluation *secureboot.Evaluation `json:"evaluation"`
}

// missingListResult is the object of missing.
type missingListResult struct {
	cli.Header
	Updates []updateResult  `json:"updates"` // in the order given
	Missing []missingResult `json:"missing"` // entries that the machine lacks now
	// and those that it lacks after all updates that it takes
	StillMissing []missingResult `json:"stillMissing"`
}

type updateResult struct {
	Name     string `json:"name"`
	Variable string `json:"variable,omitempty"` // for which it was signed
	Append   bool   `json:"append,omitempty"`
	Taken    bool   `json:"taken"`
	Refused  string `json:"refused,omitempty"` // why it is not
	New      int    `json:"new"`               // entries that the machine lacks now
}

// rotateResult is the object of rotate. The rotation is the plan as in its file, with schema
// osmith.rotation/1.
type rotateResult struct {
	cli.Header
	Action   string               `json:"action,omitempty"` // sign, write, install, reboot, done
	Text     string               `json:"text,omitempty"`
	Variable string               `json:"variable,omitempty"` // of a write
	Append   bool                 `json:"append,omitempty"`
	Images   []string             `json:"images,omitempty"` // to be installed anew
	Digest   string               `json:"digest,omitempty"` // SHA-256, to be signed
	Rotation *secureboot.Rotation `json:"rotation"`
}
