// Package secureboot makes and reads the variables by which UEFI firmware decides what it runs (UEFI Specification 2.10, sections 8.2.2,
// 32.3 to 32.6, https://uefi.org/specs/UEFI/2.10/32_Secure_Boot_and_Driver_Signing.html), and answers whether a machine would run
// an image.
//
//	keys, err := secureboot.Generate(nil, secureboot.GenerateOptions{CommonName: "Acme OS", Owner: owner, NotBefore: from, NotAfter: to})
//	auth, err := keys.EnrollOwnKeysOnly(when)                // PK.auth, KEK.auth, db.auth
//	...
//	lists, err := secureboot.ParseSignatureLists(dbx)        // what does this machine refuse?
//	verdict := variables.Evaluate(digests, candidates)       // would it run this image?
//	if verdict.Allowed { fmt.Println(verdict.Reason) }       // db has the certificate "CN=Acme OS Signature Database Key"
//
// Signature lists of every type are read and written back as they were; certificates and the digests of images and certificates are
// understood. An .auth file is EFI_VARIABLE_AUTHENTICATION_2 with a bare SignedData, without signed attributes, under SHA-256:
// byte for byte what sign-efi-sig-list of efitools writes for the same key, time and content. With ContentInfo is
// accepted when reading. Times and dates are arguments; firmware looks at none but the time stamps of variables.
//
// [Variables.Evaluate] takes the digests and signatures of an image as values, from package authenticode or elsewhere. It follows
// edk2; its verdict names the entry of db that PCR 7 will have.
//
// Limits: RSA PKCS #1 v1.5 and ECDSA; no time stamps of signatures; SBAT and shim's MOK lists are not looked at; Microsoft's
// certificates are not shipped. Rotation of keys, and reading variables from efivarfs, are not here yet.
package secureboot
