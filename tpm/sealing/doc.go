// Package sealing seals secrets with a TPM 2.0.
package sealing
