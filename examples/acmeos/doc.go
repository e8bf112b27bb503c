// Package acmeos is the builder of an imaginary vendor: it composes osmith's packages into the
// steps that every vendor of an image-based system has, and that the examples and the end-to-end
// tests share.
//
//   - [Keys]: who signs what;
//   - [Parts]: stub, boot loader, kernel and initrd, from a distribution or as stand-ins;
//   - [Builder.Build]: one version of the system: hash tree, UKI with signed PCR policies, Secure
//     Boot signature;
//   - [Builder.Disk]: the first disk: ESP, slot A with that version, empty slot B;
//   - [NewDemo]: all of that from stand-ins, for Examples and tests of an upgrade.
//
// It is an example, not a library: copy what you like into your own builder.
package acmeos
