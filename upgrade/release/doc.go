// Package release packs one version of an operating system as an OCI artifact, and reads it back:
// the UKI, the root file system and its hash tree as layers of one manifest, with a small JSON
// config that binds them (OCI Image Format Specification 1.1,
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
// Later and elsewhere, what cosign.Verify has vouched for is opened, and planned:
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
// A release comes from elsewhere by Read and Pull, from any [BlobSource]: a layout of package
// cosign, a web server by package weblayout, a registry by the module upgrade/release/registry. Of
// an index for several architectures, Select picks the release. docs/release.md describes the
// format.
//
// # What is checked
//
// A release is named by the digest of its manifest, never by a tag. Open holds the manifest and the
// config against their digests, and reads every layer once against its digest and size before it
// hands any of them out. Pull does the same before a blob gets its name. Only a [BlobReader] hands
// on what has no digest, and so does the root file system of a release that [Stream] opens: they
// are for who has a hash tree, such as verity.Patch and package upgrade. The UKI that Stream leaves
// on its server was read once against its digest, and cannot become another one later. [UKIDigests]
// are what it is judged by.
//
// # Limits
//
// Manifests, indexes and configs up to 4 MiB, in which no key may appear twice; SHA-256 only;
// layers are not compressed.
package release
