// Package weblayout reads releases from an OCI image layout that any web server or CDN serves as
// plain files: index.json and blobs/sha256/HEX (OCI Image Format Specification 1.1,
// image-layout.md). There is no server side to run; http.FileServer will do. A server that answers
// range requests lets a transfer be taken up where it broke, and lets verity.Patch fetch no more
// than the blocks that a machine does not have.
//
//	src, err := weblayout.Open("https://updates.example/acme/", weblayout.OpenOptions{Client: http.DefaultClient})
//	if err != nil {
//		return err
//	}
//	artifact, err := src.Resolve(ctx, "v2")  // a name is a hint, and nothing more
//	if err != nil {
//		return err
//	}
//	result, err := cosign.Verify(ctx, src, artifact, policy)
//	if err != nil {
//		return err
//	}
//	rel, err := release.Read(ctx, src, result.Subject)
//	if err != nil {
//		return err
//	}
//	err = release.Pull(ctx, src, rel, dir, release.PullOptions{})
//
// A Layout is a source of package cosign and of package release. Nothing that the server says is
// trusted: whoever reads a blob holds it against its digest.
//
// # Limits
//
// Signatures are found if index.json lists them, as it does in layouts that package cosign and oras
// write; what "cosign save" writes must be scanned for them, which files on a web server do not
// allow.
package weblayout
