// Package firmwaregrid makes images and updates of variables that ask firmware one question each
// about Secure Boot: certificates, messages and lists that are unusual in one respect. The same
// bytes come out each time, so what builds of firmware answered is recorded here, with the digest
// of the question; package e2e boots them and compares, package secureboot has to give the same
// answers without a boot.
//
// It builds every byte itself, since what is asked is what tidy encoders cannot write, and shares
// no code with what is judged by it.
package firmwaregrid
