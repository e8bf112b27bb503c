// Package weblayout reads releases from an OCI image layout that any web server or CDN serves as
// plain files: index.json and blobs/sha256/HEX (OCI Image Format Specification 1.1,
// image-layout.md). Any file server will do, such as http.FileServer. If the server answers range
// requests, an interrupted transfer resumes where it broke, and verity.Patch fetches only the
// blocks that the machine lacks.
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
// A Layout is a source of package cosign and of package release. The server is not trusted: readers
// check a blob against its digest.
//
// # Limits
//
// Signatures are found if index.json lists them, as it does in layouts that package cosign and oras
// write; what "cosign save" writes would have to be scanned for them, which a web server does not
// allow.
package weblayout
