package osmith_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"io"
	"io/fs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/osmith-dev/osmith"
	"github.com/osmith-dev/osmith/bootloader"
	"github.com/osmith-dev/osmith/partition"
	"github.com/osmith-dev/osmith/partition/fat"
	"github.com/osmith-dev/osmith/partition/luks"
	"github.com/osmith-dev/osmith/signing/cosign"
	"github.com/osmith-dev/osmith/signing/secureboot"
	"github.com/osmith-dev/osmith/tpm"
	"github.com/osmith-dev/osmith/tpm/policy"
	"github.com/osmith-dev/osmith/tpm/sealing"
	"github.com/osmith-dev/osmith/uki"
	"github.com/osmith-dev/osmith/upgrade"
	"github.com/osmith-dev/osmith/upgrade/release"
)

// The passages that users make from one package to another. That they compile is the test: none
// needs a loop, a conversion or a type that is declared twice.
var (
	_ = imageToPrediction
	_ = loaderToESP
	_ = tablesToPrediction
	_ = enrollmentToESP
	_ = variablesToFirmware
	_ = releaseToUpgrade
	_ = measurementsToSignatures
	_ = tokenToPolicies
	_ = bootsToPolicies
	_ = secretToVolume
	_ = volumeToPartition
)

// imageToPrediction takes what the stub measures and hands over, and its version, from a UKI to a
// prediction.
func imageToPrediction(f *uki.File, at uki.Boot) (*tpm.Log, []byte, error) {
	sections, err := f.Measurements(crypto.SHA256, crypto.SHA384)
	if err != nil {
		return nil, nil, err
	}
	pcr11, err := tpm.PCR11(crypto.SHA256, sections, tpm.PhaseEnterInitrd)
	if err != nil {
		return nil, nil, err
	}
	stub, err := f.StubVersion()
	if err != nil {
		return nil, nil, err
	}
	handed, err := f.Handover(at)
	if err != nil {
		return nil, nil, err
	}
	handover, err := handed.Measure(crypto.SHA256, crypto.SHA384)
	if err != nil {
		return nil, nil, err
	}
	log, err := tpm.Predict(tpm.Boot{Sections: sections, Stub: stub, Handover: handover})
	return log, pcr11, err
}

// loaderToESP puts the files of a boot loader on a new ESP, and on one that is there.
func loaderToESP(esp io.WriterAt, loader osmith.Source, more ...osmith.ESPFile) error {
	files, err := (&bootloader.Installation{Loader: loader}).Files()
	if err != nil {
		return err
	}
	return fat.Build(esp, append(files, more...), fat.BuildOptions{})
}

// tablesToPrediction takes the partition table of a disk, or that of a planned one, to a
// prediction.
func tablesToPrediction(disk osmith.Source, planned *partition.Image, boot, first *tpm.Boot) (err error) {
	table, err := partition.Read(disk, partition.ReadOptions{})
	if err != nil {
		return err
	}
	if boot.GPT.Header, boot.GPT.Entries, err = table.MarshalPrimary(); err != nil {
		return err
	}
	first.GPT.Header, first.GPT.Entries, err = planned.Table.MarshalPrimary()
	return err
}

// enrollmentToESP puts a boot loader on a new ESP, with keys that it enrols, and keys on one that
// is there.
func enrollmentToESP(esp io.WriterAt, loader osmith.Source, e *secureboot.Enrollment) error {
	keys, err := e.LoaderKeys("auto")
	if err != nil {
		return err
	}
	files, err := (&bootloader.Installation{Loader: loader, Keys: keys}).Files()
	if err != nil {
		return err
	}
	return errors.Join(fat.Build(esp, files, fat.BuildOptions{}), fat.Build(esp, keys, fat.BuildOptions{}))
}

// variablesToFirmware takes a machine's variables and an image to the firmware's answer, to an
// upgrade and to a prediction.
func variablesToFirmware(efivars fs.FS, program osmith.Source, pending secureboot.Pending) (*tpm.Log, upgrade.Machine, error) {
	variables, err := secureboot.ReadVariables(efivars)
	if err != nil {
		return nil, upgrade.Machine{}, err
	}
	if variables, err = secureboot.Apply(variables, pending); err != nil {
		return nil, upgrade.Machine{}, err
	}
	image, err := secureboot.ReadImage(program, tpm.Banks()...)
	if err != nil {
		return nil, upgrade.Machine{}, err
	}
	boot := tpm.Boot{Variables: &variables, UKI: tpm.Application{Size: program.Size(), Digests: image.Digests}}
	if boot.UKI.Authority, err = secureboot.Evaluate(variables, image, secureboot.EvaluateOptions{}).AuthorityEvent(); err != nil {
		return nil, upgrade.Machine{}, err
	}
	log, err := tpm.Predict(boot)
	return log, upgrade.Machine{Firmware: &variables}, err
}

// releaseToUpgrade plans the upgrade to what a policy has vouched for.
func releaseToUpgrade(ctx context.Context, layout fs.FS, src cosign.ArtifactSource, p cosign.Policy, artifact ocispec.Descriptor, disk osmith.Disk, m upgrade.Machine) (*upgrade.Plan, error) {
	verified, err := cosign.Verify(ctx, src, artifact, p)
	if err != nil {
		return nil, err
	}
	r, err := release.Open(ctx, layout, verified.Subject)
	if err != nil {
		return nil, err
	}
	return upgrade.NewPlan(ctx, disk, r, m, upgrade.PlanOptions{})
}

// measurementsToSignatures signs for what a UKI will leave in PCR 11.
func measurementsToSignatures(im *uki.Image, key crypto.Signer) (policy.Signatures, error) {
	sections, err := im.Measurements(tpm.Banks()...)
	if err != nil {
		return nil, err
	}
	states, err := tpm.PCR11States(sections, nil, nil)
	if err != nil {
		return nil, err
	}
	return policy.Sign(key, states, "")
}

// tokenToPolicies takes the key that signs for a volume's token to the next secret and to an
// upgrade.
func tokenToPolicies(token *sealing.Token) (sealing.Policy, upgrade.Machine) {
	return sealing.Policy{PublicKey: token.PublicKey}, upgrade.Machine{PCRKeys: []*rsa.PublicKey{token.PublicKey}}
}

// bootsToPolicies seals to any of several boots, here and as a policy.
func bootsToPolicies(all tpm.Alternatives) (sealing.Policy, *policy.Tree, error) {
	states, err := all.States(crypto.SHA256, 4, 7)
	if err != nil {
		return sealing.Policy{}, nil, err
	}
	tree, err := policy.AnyState(policy.Digest{}, crypto.SHA256, states)
	return sealing.Policy{PCRs: []int{4, 7}, Alternatives: states}, tree, err
}

// secretToVolume takes a sealed secret to a key slot of the volume in a partition, and the tokens
// of a volume to their check.
func secretToVolume(t *partition.Table, disk osmith.Disk, random io.Reader, passphrase, secret []byte, token *sealing.Token) ([]*sealing.Token, error) {
	v, err := luks.Open(t.Window(disk, 0))
	if err != nil {
		return nil, err
	}
	key, err := v.Unlock(passphrase, luks.UnlockOptions{})
	if err != nil {
		return nil, err
	}
	text, err := token.MarshalJSON()
	if err != nil {
		return nil, err
	}
	if _, err := v.AddKey(key, sealing.Passphrase(secret), luks.KeyOptions{Rand: random, KDF: luks.RandomKeyKDF, Token: text}); err != nil {
		return nil, err
	}
	var all []*sealing.Token
	for _, stored := range v.Header().Tokens {
		if stored.Type == sealing.TokenType {
			token, err := sealing.ParseToken(stored.JSON)
			if err != nil {
				return nil, err
			}
			all = append(all, token)
		}
	}
	return all, nil
}

// volumeToPartition plans a partition whose content is encrypted while it is written.
func volumeToPartition(random io.Reader, state osmith.Source, passphrase []byte) (*partition.Image, error) {
	volume, err := luks.NewImage(state, 0, passphrase, luks.FormatOptions{Rand: random}, nil)
	if err != nil {
		return nil, err
	}
	return partition.Plan(partition.Layout{Partitions: []partition.Spec{{Type: partition.ESP, Name: "state", Content: volume}}})
}
