// Package registry reads releases from OCI registries, and puts them there (OCI Distribution
// Specification 1.1, https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md). A
// Repository is a source of package cosign and of package release:
//
//	repo, err := registry.Open("registry.example/os/acme", registry.OpenOptions{Client: http.DefaultClient})
//	if err != nil {
//		return err
//	}
//	artifact, err := repo.Resolve(ctx, "v2") // a tag is a hint, and nothing more
//	if err != nil {
//		return err
//	}
//	result, err := cosign.Verify(ctx, repo, artifact, policy)
//	if err != nil {
//		return err
//	}
//	rel, err := release.Read(ctx, repo, result.Subject)
//	if err != nil {
//		return err
//	}
//	err = release.Pull(ctx, repo, rel, dir, release.PullOptions{})
//
// Signatures are found under cosign's tags and by the referrers API, or by its tag scheme where the
// registry has no API; they are never filtered by type, since some registries report a different
// type than was pushed.
//
// It is a separate module because of its dependency oras.land/oras-go, which does authentication,
// referrers and pushing. Blobs are read by range requests with retries as from any web server.
package registry
