// Package release packs one version of an operating system as an OCI artifact, and reads it back:
// the UKI, the root file system and its hash tree as layers of one manifest, with a small JSON
// config that ties them together (OCI Image Format Specification 1.1,
// https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md, "Guidelines for Artifact
// Usage").
//
// The vendor packs:
//
//	packed, err := release.Pack(dir, "v2", &release.Release{
//		ID: "acme", Version: "2", UKI: uki, Root: root, Tree: tree, RootHash: rootHash,
//	})
//	if err != nil {
//		return err
//	}
//	fmt.Println("sign this digest:", packed.Digest)
//
// A machine opens what cosign.Verify has accepted, and plans the upgrade:
//
//	verified, err := cosign.Verify(ctx, layout, artifact, policy)
//	if err != nil {
//		return err
//	}
//	rel, err := release.Open(ctx, os.DirFS(dir), verified.Subject)
//	if err != nil {
//		return err
//	}
//	defer rel.Close()
//	plan, err := upgrade.NewPlan(ctx, disk, rel, machine, upgrade.PlanOptions{})
//
// Read and Pull fetch a release from any [BlobSource]: a layout of package cosign, a web server by
// package weblayout, a registry by the module upgrade/release/registry. Select picks the release
// from an index for several architectures. docs/release.md describes the format.
//
// # What is checked
//
// A release is named by the digest of its manifest, never by a tag. Open checks the digests of
// manifest and config, and the digest and size of every layer, before it hands out any of them.
// Pull does the same before a blob gets its name. Only a [BlobReader], and the root file system of
// a release that [Stream] opens, hand out bytes without a check of their digest: they are for
// callers with a hash tree, such as verity.Patch and package upgrade. The UKI that Stream leaves on
// its server was checked once against its digest, and a later change of it is an error. It is
// judged by its [UKIDigests].
//
// # Limits
//
// Manifests, indexes and configs up to 4 MiB, in which no key may appear twice; SHA-256 only;
// layers are not compressed.
package release
