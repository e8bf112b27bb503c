// Package tools has the requirements of the tools that hack/ runs; its go.mod is kept out of the
// library.
package tools
